"""What the headline found best is what is shipped."""

import json

from benchmarks.figures import RESULTS
from benchmarks.headline_arms import LOOP, SMALL, arms
from flows.recipe import load_recipe


def test_the_shipped_recipe_is_the_loop_that_came_out_best_among_500_passages() -> None:
    figures = json.loads((RESULTS / "headline.json").read_text())["figures"]
    begun, metric = f"{SMALL.name}, {LOOP}", ": recalibrated perplexity"
    loops = {
        one["name"].removeprefix(f"{SMALL.name}, ").removesuffix(metric): one["value"]
        for one in figures
        if one["name"].startswith(begun) and one["name"].endswith(metric)
    }
    asked = arms(SMALL)[min(loops, key=lambda arm: loops[arm])]
    shipped = load_recipe("gaining").model_dump()
    assert shipped["generations"] == asked.pop("generations")
    for table, values in asked.items():
        assert values.items() <= shipped[table].items()
