"""Several recipes side by side: one report, one generation 0 where it is the same."""

from pathlib import Path

import pytest

from flows.compare import compare
from flows.config.recipe import Recipe
from flows.config.site import Site
from storage.artifacts.artifact import read_manifest
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.orchestration.prefect import without_prefect


@pytest.mark.processes
def test_arms_share_the_generation_that_is_the_same_and_differ_after_it(ingested: Site, recipe: Recipe) -> None:
    cold = recipe.model_copy(
        update={
            "name": "cold",
            "generate": recipe.generate.model_copy(update={"temperature": 0.5}),
            "mix": recipe.mix.model_copy(update={"policy": "replace"}),
        }
    )
    with without_prefect():
        folder = compare([recipe, cold], ingested, "both")
    page = (folder / "report.html").read_text()
    assert "tiny" in page
    assert "cold" in page
    assert "data:image/png;base64," in page
    models = [ingested.store / f"runs/{run}/generation=0/attempt=1/model" for run in ("tiny", "cold")]
    first, second = (read_manifest(model) for model in models)
    assert first["fingerprint"] == second["fingerprint"]
    assert sorted("copied_from" in manifest["facts"] for manifest in (first, second)) == [False, True]
    rows = open_catalog(ingested.store).sql(QUERIES["run_outcomes"]).fetchall()
    types = {row[0]: row[9] for row in rows}
    assert types["cold"] < types["tiny"]


def test_recipes_of_one_name_are_refused(ingested: Site, recipe: Recipe) -> None:
    with without_prefect(), pytest.raises(ValueError, match="need different names"):
        compare([recipe, recipe], ingested, "both")


@pytest.mark.processes
def test_an_arm_that_fails_fails_the_comparison(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    lost = recipe.model_copy(update={"name": "lost", "dataset": "absent"})
    with without_prefect(), pytest.raises(ValueError, match="There is no dataset 'absent'"):
        compare([recipe, lost], ingested, "both")
