"""Load recipes and sites from TOML files, apply `--set` overrides, and explain validation errors."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from flows.config.site import Site
from heirloom.commands import GivenStore, remember_store
from heirloom.errors import HeirloomError, did_you_mean
from storage.artifacts.provenance import redact_arguments
from storage.remote.mirror import mirror_path
from storage.remote.s3 import SCHEME
from storage.runs.run import Run, runs

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from flows.config.recipe import Recipe

_SHIPPED = Path(__file__).parents[1] / "recipes"
_MESSAGE_PREFIXES = ("Input should ", "String should ", "Value should ", "List should ", "Tuple should ")
"""Beginnings of pydantic's messages that read well after the name of the key."""

_MAX_LISTED_KEYS = 12

Settings = TypeVar("Settings", bound=BaseModel)
Location = tuple[str | int, ...]


def load_recipe(source: str, overrides: Sequence[str] = (), store: Path | None = None) -> "Recipe":
    """Load a recipe and apply overrides to it.

    Args:
        source: path of a TOML file, name of a run in `store`, or name of a shipped recipe. The stored recipe of a run
            wins over the shipped recipe of the same name, unless an override gives it another name.
        overrides: `table.key=value`, each; they win over the file, and the file over the defaults.
        store: where runs are looked up.

    Raises:
        HeirloomError: no such recipe, no TOML, or a key or value that is not allowed.
    """
    # Imported here because the settings of all stages take seconds to import, and a site needs none of them.
    from flows.config.recipe import Recipe

    path = Path(source)
    run_names = [run.name for run in runs(store)] if store else []
    is_renamed = source in shipped_recipes() and apply_overrides({}, overrides, Recipe).get("name", source) != source
    if store and source in run_names and not path.is_file() and not is_renamed:
        return validate_settings(Recipe, apply_overrides(Run(store, source).recipe(), overrides, Recipe))
    if not path.suffix and not path.exists():
        path = _SHIPPED / f"{source}.toml"
    if not path.is_file():
        raise HeirloomError(_unknown_recipe(source, store, run_names))
    return validate_settings(Recipe, apply_overrides(_read_toml(path), overrides, Recipe))


def shipped_recipes() -> list[str]:
    """Return the names of the recipes that come with Heirloom."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def load_site(source: str | None, store: str | None) -> Site:
    """Load a site from a TOML file, or return the defaults; `store` wins over both.

    Args:
        source: path of a TOML file.
        store: a local folder, or an S3 URL that is mirrored to a local folder.

    Raises:
        HeirloomError: no such file, no TOML, or a key or value that is not allowed.
    """
    if source and not Path(source).is_file():
        raise HeirloomError(f"Site file {source} does not exist. `--site` expects the path of a TOML file.")
    site = validate_settings(Site, _read_toml(Path(source)) if source else {})
    site_store = site.store_url or str(site.store) if source else ""
    remember_store(GivenStore(site_file=source or "", store=store or "", site_store=site_store))
    if not store:
        return site
    if store.startswith(SCHEME):
        return validate_settings(Site, {**site.model_dump(), "store_url": store, "store": mirror_path(store)})
    return site.model_copy(update={"store": Path(store), "store_url": ""})


def apply_overrides(
    values: dict[str, Any], overrides: Sequence[str], model: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Set each `table.key=value` in `values`, in place, and return it.

    Values are TOML; text that is not TOML is taken as a string. A key of `model` that takes text gets what was typed,
    even if it looks like a number or a date: `name=2024-01-01`.

    Raises:
        HeirloomError: an override without a value, or with a path through a key that is not a table.
    """
    for override in overrides:
        path, equals, raw = override.partition("=")
        if not equals:
            raise HeirloomError(f"`--set {override}` has no value. Write it as `--set table.key=value`.")
        *tables, key = path.strip().split(".")
        target = values
        for name in tables:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise HeirloomError(
                    f"`--set {override}`: `{name}` is a value, not a table. Set it as `--set {name}=VALUE`."
                )
        value = _parse_value(raw.strip())
        if model and not isinstance(value, str | list | dict) and _takes_only_text(model, (*tables, key)):
            value = raw.strip()
        target[key] = value
    return values


def validate_settings(model: type[Settings], values: Mapping[str, object]) -> Settings:
    """Validate values that a user wrote.

    Raises:
        HeirloomError: unknown keys or values that are not allowed, in the words of `format_validation_error`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise HeirloomError(format_validation_error(error, model)) from error


def format_validation_error(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Explain a validation error: one sentence per wrong key, with its full path.

    Args:
        error: the error.
        model: the settings that were validated; unknown keys are compared with its keys.
    """
    sentences = [_explain(details, model) for details in error.errors()]
    if model and any(details["type"] == "extra_forbidden" for details in error.errors()):
        sentences.append("All keys are in docs/recipe.md.")
    return " ".join(sentences)


def _explain(details: "ErrorDetails", model: type[BaseModel] | None) -> str:
    location, _ = _walk(details["loc"], model)
    key = ".".join(str(part) for part in location)
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        return f"Unknown key `{key}`.{_suggest_key(details['loc'], model)}"
    if details["type"] == "missing":
        return f"`{key}` is missing; it has no default."
    if not location:
        return _sentence(message)
    found = "" if isinstance(details["input"], dict | BaseModel) else _display(details["input"])
    if details["type"] in ("literal_error", "enum", "union_tag_invalid"):
        context = details["ctx"]
        expected = str(context.get("expected") or context.get("expected_tags"))
        tag = str(context.get("tag") or details["input"])
        suggestion = did_you_mean(tag, [choice.strip(" '") for choice in expected.replace(" or ", ", ").split(",")])
        return f"`{key}` is {tag!r}, expected {expected}.{suggestion}"
    if details["msg"].startswith(_MESSAGE_PREFIXES):
        rule = message.partition(" should ")[2]
        return f"`{key}` should {rule}{f', found {found}' if found else ''}.{_quotes_advice(details)}"
    # Many validators name the key and the value themselves.
    message = message.rstrip(".")
    subject = "" if key in message else f"`{key}`: "
    value = f" (found {found})" if found and str(details["input"]) not in message else ""
    return _sentence(f"{subject}{message}{value}")


def _quotes_advice(details: "ErrorDetails") -> str:
    """Return the advice to write a number, truth value or date as text, where text is expected."""
    value = details["input"]
    if details["type"] != "string_type" or not isinstance(value, int | float | date | time):
        return ""
    written = str(value).lower() if isinstance(value, bool) else str(value)
    return f' Write it in quotes: `{details["loc"][-1]} = "{written}"`.'


def _walk(location: Location, model: type[BaseModel] | None) -> tuple[Location, list[type[BaseModel]]]:
    """Return the location without tags of unions, and the settings classes that can stand there."""
    if model is None:
        return location, []
    written: list[str | int] = []
    choices: list[type[BaseModel]] = [model]
    for part in location:
        tagged = [choice for choice in choices if part in _tags(choice)]
        if len(choices) > 1 and tagged:
            choices = tagged
            continue
        written.append(part)
        if isinstance(part, str):
            fields = [choice.model_fields[part] for choice in choices if part in choice.model_fields]
            choices = [inner for field in fields for inner in _models_in(field.annotation)]
    return tuple(written), choices


def _takes_only_text(model: type[BaseModel], path: Location) -> bool:
    """Whether a key takes text, and no number, truth value or date."""
    *tables, name = path
    _, choices = _walk(tuple(tables), model)
    annotations = [choice.model_fields[str(name)].annotation for choice in choices if name in choice.model_fields]
    types = {alternative for annotation in annotations for alternative in (get_args(annotation) or (annotation,))}
    return str in types and types <= {str, type(None)}


def _suggest_key(location: Location, model: type[BaseModel] | None) -> str:
    """Suggest the same key in another table, or else the closest key of this table.

    Args:
        location: where pydantic found the unknown key, with tags of unions.
        model: the settings that were validated.
    """
    if model is None:
        return ""
    *table, name = location
    written, choices = _walk(tuple(table), model)
    prefix = "".join(f"{part}." for part in written)
    elsewhere = [path for path in _key_paths(model, "") if path.rpartition(".")[2] == name]
    if f"{prefix}{name}" in elsewhere:
        return f" It belongs to another `{prefix}backend`."
    if elsewhere:
        return f" Did you mean `{elsewhere[0]}`?"
    keys = list(dict.fromkeys(key for choice in choices for key in choice.model_fields))
    if suggestion := did_you_mean(str(name), keys):
        return suggestion.replace("`", f"`{prefix}", 1)
    return f" Keys there: {', '.join(keys)}." if 0 < len(keys) <= _MAX_LISTED_KEYS else ""


def _key_paths(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Yield the dotted path of every key of a model and of the models in it."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for inner in _models_in(field.annotation):
            yield from _key_paths(inner, f"{prefix}{name}.")


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the settings classes in an annotation: itself, members of a union, items of a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _tags(model: type[BaseModel]) -> tuple[object, ...]:
    """Values of the discriminator of a member of a union, as in `backend: Literal["ngram"]`."""
    field = model.model_fields.get("backend")
    return get_args(field.annotation) if field else ()


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _display(value: object) -> str:
    # A server address in a site can hold a password.
    return redact_arguments([json.dumps(value, default=str) if isinstance(value, list) else repr(value)])[0]


def _unknown_recipe(source: str, store: Path | None, run_names: Sequence[str]) -> str:
    suggestion = did_you_mean(source, [*shipped_recipes(), *run_names])
    stored = f" Runs in {store}: {', '.join(run_names)}." if store and run_names else ""
    return (
        f"There is no recipe `{source}`.{suggestion} Give a TOML file, a shipped recipe or a run. "
        f"Shipped recipes: {', '.join(shipped_recipes())}.{stored}"
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise HeirloomError(f"{path} is not valid TOML: {error}.") from error


def _parse_value(raw: str) -> object:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
