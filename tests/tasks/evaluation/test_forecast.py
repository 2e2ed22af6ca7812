from pathlib import Path

from curation.forecast.simulation import FORECAST_METRICS
from flows.config.recipe import Recipe
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.evaluation.forecast import loop_spec


def test_every_generation_has_a_forecast_to_compare_with_its_metrics(finished_store: Path) -> None:
    catalog = open_catalog(finished_store)
    rows = catalog.sql(
        "select generation, value, low, high from forecast where metric = 'type_coverage' order by all"
    ).fetchall()
    assert [row[0] for row in rows] == [0, 1, 2, 3]
    assert all(0 <= low <= value <= high <= 1 for _, value, low, high in rows)
    compared = catalog.sql(QUERIES["forecast_vs_measured"]).fetchall()
    assert {row[2] for row in compared} == set(FORECAST_METRICS)
    assert len(compared) == 4 * len(FORECAST_METRICS)


def test_a_loop_spec_has_the_settings_of_the_recipe(recipe: Recipe) -> None:
    assert loop_spec(recipe).mix == recipe.mix
    assert loop_spec(recipe).temperature == recipe.generate.temperature
