"""Load recipes and sites from TOML, apply overrides, and explain validation errors."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flows.config.recipe import _BACKENDS, Recipe
from flows.config.site import Site
from heirloom.errors import HeirloomError
from storage.artifacts.provenance import redact_arguments
from storage.remote.mirror import mirror_path
from storage.remote.s3 import SCHEME
from storage.runs.run import Run, runs

_SHIPPED = Path(__file__).parents[1] / "recipes"


def load_recipe(source: str, overrides: Sequence[str] = (), store: Path | None = None) -> Recipe:
    """A recipe from a TOML file, that of a run in `store`, or a shipped one by its name; overrides on top.

    A shipped recipe whose run is there is that run's, unless it is given another name.

    Raises:
        HeirloomError: no such file, not TOML, or a key or value that is not allowed; the message names its path.
    """
    path, known = Path(source), [run.name for run in runs(store)] if store else []
    renamed = source in shipped_recipes() and apply_overrides({}, overrides).get("name", source) != source
    if store and source in known and not path.is_file() and not renamed:
        return Recipe.model_validate(apply_overrides(Run(store, source).recipe(), overrides))
    if not path.suffix and not path.exists():
        path = _SHIPPED / f"{source}.toml"
    if not path.is_file():
        also = f"; or a run of {store}: {', '.join(known)}" if store and known else ""
        raise HeirloomError(
            f"there is no recipe {source}; name a TOML file, or a shipped recipe: {', '.join(shipped_recipes())}{also}"
        )
    return Recipe.model_validate(apply_overrides(_toml(path), overrides))


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with Heirloom."""
    return sorted(found.stem for found in _SHIPPED.glob("*.toml"))


def load_site(source: str | None, store: str | None) -> Site:
    """A site from a TOML file, or the defaults; `store` wins over both.

    Raises:
        HeirloomError: no such file, not TOML, or a key that is not allowed.
    """
    if source and not Path(source).is_file():
        raise HeirloomError(f"there is no site file {source}")
    site = Site.model_validate(_toml(Path(source)) if source else {})
    if store and store.startswith(SCHEME):
        return Site.model_validate({**site.model_dump(), "store_url": store, "store": mirror_path(store)})
    return site.model_copy(update={"store": Path(store), "store_url": ""}) if store else site


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`values` with each `table.key=value` put in its place.

    Raises:
        HeirloomError: an override without a value, or one that goes through a value as if it were a table.
    """
    for override in overrides:
        path, equals, raw = override.partition("=")
        if not equals:
            raise HeirloomError(f"--set {override} has no value; write it as table.key=value")
        *tables, key = path.strip().split(".")
        target = values
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise HeirloomError(f"--set {override}: {table} is a value, not a table")
        target[key] = _value(raw.strip())
    return values


def format_validation_error(error: ValidationError) -> str:
    """What is wrong with settings, one sentence a fault, each with its full path."""
    lines = []
    for fault in error.errors():
        parts = [str(part) for part in fault["loc"] if part not in _BACKENDS]
        where = ".".join(parts)
        if fault["type"] == "extra_forbidden":
            lines.append(f"{where} is no known key")
        else:
            said = fault["msg"].removeprefix("Value error, ")
            lines.append(
                f"{where + ': ' if where else ''}{said}"
                + (f" (found {_shown(fault['input'])})" if parts and not isinstance(fault["input"], dict) else "")
            )
    return "; ".join(lines)


def _shown(value: object) -> str:
    # An address in a site can hold a password.
    return redact_arguments([repr(value)])[0]


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HeirloomError(f"{path} is not TOML: {error}") from error


def _value(raw: str) -> Any:  # noqa: ANN401  (whatever TOML can say)
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
