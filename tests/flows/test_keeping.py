"""Commands that keep a store in order."""

from pathlib import Path

import pytest

from flows.cli import app
from flows.evolve import evolve
from flows.recipe import Recipe, Site
from tasks.coat import without_coat


def test_a_store_without_runs_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="heirloom evolve"):
        app(["runs", "--store", str(tmp_path)], standalone_mode=False)


def test_runs_says_how_far_each_is(ingested: Site, recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    with without_coat():
        evolve(recipe.model_copy(update={"generations": 1}), ingested)
    app(["runs", "--store", str(ingested.store)], standalone_mode=False)
    said = capsys.readouterr().out
    assert "tiny" in said
    assert "1 of 1" in said
