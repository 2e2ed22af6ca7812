"""The shipped recipe is the best arm of the headline benchmark, and its figures follow from the stored cells."""

import json

from benchmarks.figures import RESULTS
from benchmarks.headline.arms import FULL, LOOP, SMALL, arms
from benchmarks.headline.run import _CELLS, _SEEDS, _curves, _note, _table, _verdict
from flows.config.loading import load_recipe


def test_the_shipped_recipe_is_the_best_loop_with_500_passages() -> None:
    figures = json.loads((RESULTS / "headline.json").read_text())["figures"]
    begun, metric = f"{SMALL.name}, {LOOP}", ": perplexity at best temperature"
    loops = {
        one["name"].removeprefix(f"{SMALL.name}, ").removesuffix(metric): one["value"]
        for one in figures
        if one["name"].startswith(begun) and one["name"].endswith(metric)
    }
    asked = arms(SMALL)[min(loops, key=lambda arm: loops[arm])]
    shipped = load_recipe("gaining").model_dump()
    assert shipped["num_generations"] == asked.pop("num_generations")
    for table, values in asked.items():
        assert values.items() <= shipped[table].items()


def test_the_result_follows_from_its_cells() -> None:
    stored = {one["name"]: one["value"] for one in json.loads((RESULTS / "headline.json").read_text())["figures"]}
    for size in (SMALL, FULL):
        curves = _curves(size)
        found = {one.name: one.value for one in [*_verdict(size, curves), *_table(size, curves)]}
        assert len(found) > len(arms(size))
        assert found.items() <= stored.items()


def test_every_stored_cell_belongs_to_an_arm() -> None:
    asked = {_note((size, arm, seed)) for size in (SMALL, FULL) for arm in arms(size) for seed in _SEEDS}
    kept = set(_CELLS.iterdir())
    assert kept
    assert kept <= asked
