"""What a model would be asked, before it is asked."""

import pytest
from rich.console import Console

from flows.preview import preview
from flows.recipe import Recipe, Site


def _shown(recipe: Recipe, site: Site, count: int = 2, **prompts: object) -> str:
    console = Console(record=True, width=160)
    changed = recipe.model_validate({**recipe.model_dump(mode="json"), "prompts": prompts})
    preview(console, changed, site, count)
    return console.export_text()


def test_prompts_are_shown_whole_with_the_record_they_come_from(ingested: Site, recipe: Recipe) -> None:
    said = _shown(recipe, ingested, program="rephrase")
    assert "by program rephrase; the record is the answer alone" in said
    assert said.count("Say the following in other words.") == 2
    assert said.count("from h-") == 2


def test_a_grid_is_counted_by_cell(ingested: Site, recipe: Recipe) -> None:
    attributes = {"tone": ["plain", "odd"], "form": ["list", "[story]"]}
    said = _shown(recipe, ingested, 0, program="template", template="A {tone} {form}.", attributes=attributes)
    rows = [line for line in said.splitlines() if "plain" in line or "odd" in line]
    assert len(rows) == 4
    assert any("[story]" in row for row in rows)
    assert "prompt 1" not in said


def test_a_model_that_begins_by_itself_is_asked_nothing(ingested: Site, recipe: Recipe) -> None:
    assert "the model begins by itself" in _shown(recipe, ingested, 1)


def test_more_than_the_reserve_has_is_refused_before_any_model_is_asked(ingested: Site, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="prompts from reserve records"):
        _shown(recipe, ingested, program="opening", candidates_per_human_record=3)
