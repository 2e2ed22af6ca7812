"""What a model would be asked, before it is asked."""

from pathlib import Path

import pytest
from rich.console import Console

from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.prompt_preview import preview
from storage.runs.run import Run


def _shown(
    recipe: Recipe, site: Site, count: int = 2, tables: dict[str, dict[str, object]] | None = None, **prompts: object
) -> str:
    console = Console(record=True, width=160)
    asked = recipe.model_dump(mode="json")
    for name, table in (tables or {}).items():
        asked[name] |= table
    changed = recipe.model_validate({**asked, "prompts": prompts})
    preview(console, changed, site, count)
    return console.export_text()


def test_prompts_are_shown_whole_with_the_record_they_come_from(ingested: Site, recipe: Recipe) -> None:
    said = _shown(recipe, ingested, template_name="rephrase")
    assert "by program rephrase; the record is the completion alone" in said
    assert said.count("Say the following in other words.") == 2
    assert said.count("from h-") == 2


def test_a_grid_is_counted_by_cell(ingested: Site, recipe: Recipe) -> None:
    attributes = {"tone": ["plain", "odd"], "form": ["list", "[story]"]}
    said = _shown(recipe, ingested, 0, template_name="template", template="A {tone} {form}.", attributes=attributes)
    rows = [line for line in said.splitlines() if "plain" in line or "odd" in line]
    assert len(rows) == 4
    assert any("[story]" in row for row in rows)
    assert "prompt 1" not in said


def test_a_model_that_begins_by_itself_is_asked_nothing(ingested: Site, recipe: Recipe) -> None:
    assert "the model begins by itself" in _shown(recipe, ingested, 1)


def test_more_than_the_reserve_has_is_refused_before_any_model_is_asked(ingested: Site, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="prompts from human training records"):
        _shown(recipe, ingested, template_name="prefix", prompts_per_human_record=3)


def test_answers_and_teachers_are_counted_and_the_choice_is_named(ingested: Site, recipe: Recipe) -> None:
    tables: dict[str, dict[str, object]] = {
        "generate": {"teachers": ["self", "wise"], "teacher_routing": "reward"},
        "curate": {"filters": ["best_of"], "best_of": {"objective": "length"}},
    }
    said = _shown(recipe, ingested, 0, tables, template_name="prefix", completions_per_prompt=2)
    count = int(said.split("asks ")[1].split(" times")[0])
    assert f"asks {count} times in generation 1, {4 * count} answers in all, by program prefix" in said
    assert "best_of keeps the answer with most length" in said
    assert [line.split() for line in said.splitlines() if "self" in line or "wise" in line] == [
        ["self", str(2 * count)],
        ["wise", str(2 * count)],
    ]


def test_a_run_that_has_begun_is_shown_as_it_would_go_on(finished_store: Path) -> None:
    recipe = Recipe.model_validate(Run(finished_store, "tiny").recipe())
    steered = {
        "template_name": "prefix",
        "prompts_per_human_record": 0.5,
        "topic_steering": {"num_topics": 3, "encoder": "hashing"},
    }
    said = _shown(recipe, Site(store=finished_store), 1, **steered)
    assert "in generation 4" in said
    rows = [line.split() for line in said.split("said last")[1].split("prompt 1")[0].splitlines()[1:]]
    assert len(rows) == 3
    assert sum(int(row[-2]) for row in rows) > 20
    count = int(said.split("asks ")[1].split(" times")[0])
    assert sum(int(row[-1]) for row in rows) == count
