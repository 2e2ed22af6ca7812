"""Merge the stored recipe of a resumed run with the current one.

Fields that were set explicitly, then or now, must not change and are checked for drift. All other fields keep their
stored values, so that a default that has changed in a newer version does not stop a run.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from flows.config.recipe import MUTABLE_FIELDS, Recipe
from storage.runs.run import Run
from tasks.orchestration.progress import logger


@dataclass(frozen=True, kw_only=True)
class _StoredValue:
    """A field whose stored value replaces the current default."""

    path: tuple[str, ...]
    value: object

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} = {json.dumps(self.value)}"


def explicit_fields(recipe: Recipe) -> list[str]:
    """Return the dotted paths of the fields that were set, in a file or by `--set`; all others have their defaults."""
    return sorted(_iter_explicit_fields(recipe, ""))


def resume_recipe(recipe: Recipe, run: Run, *, import_user_code: bool = True) -> Recipe:
    """Return the recipe with every `auto` replaced; if the run exists, with its stored values for unset fields.

    Args:
        recipe: the current recipe.
        run: the run, which need not exist.
        import_user_code: as for `Recipe.resolve_auto`.

    Raises:
        HeirloomError: the recipe needs a package that is not installed.
    """
    if not run.exists():
        return recipe.resolve_auto(import_user_code=import_user_code)
    stored, stored_explicit = run.recipe(), run.explicit_fields()
    recipe = recipe.resolve_auto(stored=stored, import_user_code=import_user_code)
    # Without the list of explicit fields, a stored default cannot be distinguished from an explicit value: every
    # difference is drift.
    if stored_explicit is None:
        return recipe
    fixed = {*explicit_fields(recipe), *stored_explicit} | MUTABLE_FIELDS
    values = recipe.model_dump(mode="json")
    kept = list(_iter_stored_values(values, stored, fixed, ()))
    if not kept:
        return recipe
    for field in kept:
        *tables, name = field.path
        table = values
        for table_name in tables:
            table = table[table_name]
        table[name] = field.value
    logger.warning(
        "Resuming %s with its stored values where defaults have changed since: %s", run.name, ", ".join(map(str, kept))
    )
    return Recipe.model_validate(values)


def _iter_explicit_fields(model: BaseModel, prefix: str) -> Iterator[str]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _iter_explicit_fields(value, f"{prefix}{name}.")
        elif name in model.model_fields_set:
            yield prefix + name


def _iter_stored_values(
    current: Mapping[str, Any], stored: Mapping[str, Any], fixed: Collection[str], path: tuple[str, ...]
) -> Iterator[_StoredValue]:
    """Yield the stored value of every field that differs and is not in `fixed`."""
    # Another backend has other settings, and its name is among the fixed fields: drift is reported there.
    if current.get("backend") != stored.get("backend"):
        return
    for name, value in current.items():
        field_path = (*path, name)
        if ".".join(field_path) in fixed or name not in stored or value == stored[name]:
            continue
        if isinstance(value, Mapping) and isinstance(stored[name], Mapping):
            yield from _iter_stored_values(value, stored[name], fixed, field_path)
        else:
            yield _StoredValue(path=field_path, value=stored[name])
