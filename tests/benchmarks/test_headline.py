"""What the headline found best is what is shipped, and what it says is what its cells came to."""

import json

from benchmarks.figures import RESULTS
from benchmarks.headline.arms import FULL, LOOP, SMALL, arms
from benchmarks.headline.run import _CELLS, _SEEDS, _note, _table, _told, _verdict
from flows.config.loading import load_recipe


def test_the_shipped_recipe_is_the_loop_that_came_out_best_among_500_passages() -> None:
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


def test_the_result_says_what_its_cells_came_to() -> None:
    said = {one["name"]: one["value"] for one in json.loads((RESULTS / "headline.json").read_text())["figures"]}
    for size in (SMALL, FULL):
        told = _told(size)
        found = {one.name: one.value for one in [*_verdict(size, told), *_table(size, told)]}
        assert len(found) > len(arms(size))
        assert found.items() <= said.items()


def test_every_cell_that_is_kept_is_of_an_arm_that_is_asked() -> None:
    asked = {_note((size, arm, seed)) for size in (SMALL, FULL) for arm in arms(size) for seed in _SEEDS}
    kept = set(_CELLS.iterdir())
    assert kept
    assert kept <= asked
