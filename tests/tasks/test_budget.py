"""A run stops before the generation that it cannot afford, with the reason, and resumes when the budget is raised."""

from pathlib import Path

import pytest

from curation.budget import BudgetSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.runs.run import Run
from storage.runs.status import last_accepted_generation, run_state
from tasks.budget import budget_exceeded, cost_by_generation
from tasks.orchestration.prefect import without_prefect


def test_cost_is_counted_from_what_is_stored(finished_store: Path) -> None:
    found = cost_by_generation(Run(finished_store, "tiny"))
    assert [one.generation for one in found] == [0, 1, 2, 3]
    assert all(one.tokens > 0 and one.gib > 0 for one in found)
    assert found[1].tokens > found[0].tokens


def test_what_is_finished_is_always_affordable(finished_store: Path) -> None:
    run, settings = Run(finished_store, "tiny"), BudgetSettings(run_tokens=1)
    assert [budget_exceeded(run, generation, settings) for generation in range(4)] == [""] * 4
    assert "Raise `budget.run_tokens`" in budget_exceeded(run, 4, settings)


@pytest.mark.processes
def test_a_run_stops_when_its_budget_is_spent_and_goes_on_when_it_is_raised(ingested: Site, recipe: Recipe) -> None:
    run = Run(ingested.store, "tiny")
    poor = recipe.model_copy(update={"budget": BudgetSettings(run_tokens=1)})
    with without_prefect():
        evolve(poor, ingested)
        assert last_accepted_generation(run) == 0
        assert "stopped at generation 0: The run has used" in run_state(run)
        assert "Raise `budget.run_tokens`" in run_state(run)
        evolve(poor, ingested)
        assert last_accepted_generation(run) == 0
        evolve(recipe.model_copy(update={"budget": BudgetSettings(run_tokens=10**9)}), ingested)
    assert last_accepted_generation(run) == 3
    assert run_state(run) == "finished"
