"""Stored and current recipes of a resumed run."""

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

_EXPLICIT: dict[str, Any] = {
    "name": "tiny",
    "dataset": "letters",
    "train": {"backend": "ngram"},
    "generate": {"temperature": 0.7},
}


def _start_run(store: Path, values: dict[str, Any], **stored: Any) -> Run:
    """Start a run whose stored recipe has other defaults, by their path with two underscores."""
    run, recipe = Run(store, "tiny"), Recipe.model_validate(values)
    run.initialize(recipe.resolve_auto().model_dump(mode="json"), set(), {}, explicit_fields(recipe))
    path = run.folder / "run.json"
    content = json.loads(path.read_text())
    for key, value in stored.items():
        table, name = key.split("__")
        content["recipe"][table][name] = value
    path.write_text(json.dumps(content))
    return run


def _resume(run: Run, values: dict[str, Any]) -> Recipe:
    recipe = resume_recipe(Recipe.model_validate(values), run)
    run.check_drift(recipe.model_dump(mode="json"), MUTABLE_FIELDS)
    return recipe


def test_explicit_fields_are_those_that_were_set() -> None:
    recipe = Recipe.model_validate(_EXPLICIT)
    assert explicit_fields(recipe) == ["dataset", "generate.temperature", "name", "train.backend"]
    assert explicit_fields(recipe.model_copy(update={"seed": 0})) == [
        *explicit_fields(recipe)[:3],
        "seed",
        "train.backend",
    ]


@pytest.mark.processes
def test_a_resumed_run_keeps_its_stored_defaults_and_logs_one_warning(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    older = [{"metric": "perplexity", "at_most": 100.0}]
    run = _start_run(
        site.store,
        _EXPLICIT,
        gate__max_retries=7,
        gate__limits=Recipe.model_validate({**_EXPLICIT, "gate": {"limits": older}}).model_dump(mode="json")["gate"][
            "limits"
        ],
    )
    with caplog.at_level(logging.WARNING, "tasks"):
        recipe = _resume(run, {**_EXPLICIT, "num_generations": 9})
    assert (recipe.gate.max_retries, recipe.num_generations) == (7, 9)
    assert [limit.metric for limit in recipe.gate.limits] == ["perplexity"]
    (line,) = caplog.messages
    assert line.startswith("Resuming tiny with its stored values where defaults have changed since: gate.")
    assert "gate.max_retries = 7" in line


@pytest.mark.processes
def test_a_field_that_was_set_then_or_now_must_not_change(site: Site) -> None:
    run = _start_run(site.store, _EXPLICIT, gate__max_retries=7)
    for changed, field in (
        ({**_EXPLICIT, "gate": {"max_retries": 2}}, "gate.max_retries was 7, is now 2"),
        ({**_EXPLICIT, "generate": {}}, "generate.temperature was 0.7, is now 1.0"),
        ({**_EXPLICIT, "generate": {"temperature": 0.8}}, "generate.temperature was 0.7, is now 0.8"),
        ({**_EXPLICIT, "train": {"backend": "transformer"}}, "train.backend"),
        ({"name": "tiny", "dataset": "letters", "generate": {"temperature": 0.7}}, "train.backend"),
    ):
        with pytest.raises(ValueError, match=field):
            _resume(run, changed)


def test_without_the_list_of_explicit_fields_every_difference_is_drift(site: Site) -> None:
    run = _start_run(site.store, _EXPLICIT, gate__max_retries=7)
    path = run.folder / "run.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "explicit_fields"})
    )
    with pytest.raises(DriftError, match=r"gate\.max_retries was 7"):
        _resume(run, _EXPLICIT)
    # A later start does not add the list, since its explicit fields are not those of the first start.
    run.initialize(run.recipe(), set(), {}, ["name"])
    assert run.explicit_fields() is None


@pytest.mark.processes
def test_a_run_that_resumes_by_its_name_keeps_its_first_explicit_fields(site: Site) -> None:
    run = _start_run(site.store, _EXPLICIT)
    run.initialize(run.recipe(), set(), {}, explicit_fields(Recipe.model_validate(run.recipe())))
    assert run.explicit_fields() == ["dataset", "generate.temperature", "name", "train.backend"]
