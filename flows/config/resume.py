"""What a run that goes on keeps of the recipe that it was begun with: whatever nobody has said.

A default that a newer Heirloom has changed stops no run. What was said, when it began or now, is held against it as before.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from flows.config.recipe import MUTABLE_FIELDS, Recipe
from storage.runs.run import Run
from tasks.orchestration.progress import logger


def explicit_fields(recipe: Recipe) -> list[str]:
    """Paths of the fields that a file or a person has set; all others have their defaults."""
    return sorted(_iter_explicit_fields(recipe, ""))


def resume_recipe(recipe: Recipe, run: Run) -> Recipe:
    """The recipe with every `auto` decided, and what nobody has said as it was when the run began.

    Raises:
        HeirloomError: what the recipe needs is not installed.
    """
    if not run.exists():
        return recipe.resolve_auto()
    before, then = run.recipe(), run.explicit_fields()
    spoken = {*explicit_fields(recipe), *(then or ())}
    recipe = recipe.resolve_auto(stored=before)
    # An older Heirloom did not write down what was said: a field that is gone from the recipe since could not be told.
    kept = [] if then is None else list(_kept(recipe.model_dump(mode="json"), before, spoken | MUTABLE_FIELDS, ()))
    if not kept:
        return recipe
    values = recipe.model_dump(mode="json")
    for path, value in kept:
        *tables, name = path
        table = values
        for one in tables:
            table = table[one]
        table[name] = value
    told = ", ".join(f"{'.'.join(path)} = {json.dumps(value)}" for path, value in kept)
    logger.warning("%s goes on with what it began with, where defaults have changed since: %s", run.name, told)
    return Recipe.model_validate(values)


def _iter_explicit_fields(model: BaseModel, path: str) -> Iterator[str]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _iter_explicit_fields(value, f"{path}{name}.")
        elif name in model.model_fields_set:
            yield path + name


def _kept(
    now: Mapping[str, Any], before: Mapping[str, Any], spoken: Collection[str], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Values of the run in the place of those that differ and that nobody has said."""
    if now.get("backend") != before.get("backend"):
        return
    for name, value in now.items():
        here = (*path, name)
        if ".".join(here) in spoken or name not in before or value == before[name]:
            continue
        if isinstance(value, Mapping) and isinstance(before[name], Mapping):
            yield from _kept(value, before[name], spoken, here)
        else:
            yield here, before[name]
