"""What a run that goes on keeps of the recipe that it was begun with."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from flows.config.recipe import MUTABLE_FIELDS, Recipe
from flows.config.resume import explicit_fields, resume_recipe
from flows.config.site import Site
from storage.artifacts.artifact import DriftError
from storage.runs.run import Run

_SPOKEN: dict[str, Any] = {
    "name": "tiny",
    "dataset": "letters",
    "train": {"backend": "ngram"},
    "generate": {"temperature": 0.7},
}


def _begun(store: Path, values: dict[str, Any], **stored: Any) -> Run:
    """A run of this recipe, begun when defaults were as in `stored`: values by their dotted path."""
    run, recipe = Run(store, "tiny"), Recipe.model_validate(values)
    run.initialize(recipe.resolve_auto().model_dump(mode="json"), set(), {}, explicit_fields(recipe))
    path = run.folder / "run.json"
    content = json.loads(path.read_text())
    for place, value in stored.items():
        table, name = place.split("__")
        content["recipe"][table][name] = value
    path.write_text(json.dumps(content))
    return run


def _go_on(run: Run, values: dict[str, Any]) -> Recipe:
    recipe = resume_recipe(Recipe.model_validate(values), run)
    run.check_drift(recipe.model_dump(mode="json"), MUTABLE_FIELDS)
    return recipe


def test_what_was_said_is_told_from_what_is_so_by_default() -> None:
    recipe = Recipe.model_validate(_SPOKEN)
    assert explicit_fields(recipe) == ["dataset", "generate.temperature", "name", "train.backend"]
    assert explicit_fields(recipe.model_copy(update={"seed": 0})) == [
        *explicit_fields(recipe)[:3],
        "seed",
        "train.backend",
    ]


def test_a_run_goes_on_with_older_defaults_and_says_so_in_one_line(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    older = [{"metric": "perplexity", "at_most": 100.0}]
    run = _begun(
        site.store,
        _SPOKEN,
        gate__max_retries=7,
        gate__limits=Recipe.model_validate({**_SPOKEN, "gate": {"limits": older}}).model_dump(mode="json")["gate"][
            "limits"
        ],
    )
    with caplog.at_level(logging.WARNING, "tasks"):
        recipe = _go_on(run, {**_SPOKEN, "num_generations": 9})
    assert (recipe.gate.max_retries, recipe.num_generations) == (7, 9)
    assert [limit.metric for limit in recipe.gate.limits] == ["perplexity"]
    (line,) = caplog.messages
    assert line.startswith("tiny goes on with what it began with, where defaults have changed since: gate.")
    assert "gate.max_retries = 7" in line


def test_what_was_said_then_or_now_is_held_against_the_run(site: Site) -> None:
    run = _begun(site.store, _SPOKEN, gate__max_retries=7)
    for changed, field in (
        ({**_SPOKEN, "gate": {"max_retries": 2}}, "gate.max_retries was 7, is now 2"),
        ({**_SPOKEN, "generate": {}}, "generate.temperature was 0.7, is now 1.0"),
        ({**_SPOKEN, "generate": {"temperature": 0.8}}, "generate.temperature was 0.7, is now 0.8"),
        ({**_SPOKEN, "train": {"backend": "transformer"}}, "train.backend"),
        ({"name": "tiny", "dataset": "letters", "generate": {"temperature": 0.7}}, "train.backend"),
    ):
        with pytest.raises(ValueError, match=field):
            _go_on(run, changed)


def test_where_nobody_wrote_down_what_was_said_every_difference_counts(site: Site) -> None:
    run = _begun(site.store, _SPOKEN, gate__max_retries=7)
    path = run.folder / "run.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "explicit_fields"})
    )
    with pytest.raises(DriftError, match=r"gate\.tries was 7"):
        _go_on(run, _SPOKEN)
    # Nor is it written down later: the words of today say nothing of those of then.
    run.initialize(run.recipe(), set(), {}, ["name"])
    assert run.explicit_fields() is None


def test_a_run_that_goes_on_by_its_own_recipe_remembers_what_was_said_at_first(site: Site) -> None:
    run = _begun(site.store, _SPOKEN)
    run.initialize(run.recipe(), set(), {}, explicit_fields(Recipe.model_validate(run.recipe())))
    assert run.explicit_fields() == ["dataset", "generate.temperature", "name", "train.backend"]
