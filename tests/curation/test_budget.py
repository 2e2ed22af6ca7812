"""Budgets: spent or not, of the run and of one generation, and the sentence about it."""

import pytest

from curation.budget import BudgetSettings, Cost, exceeded_budget

COST = [Cost(0, 1000, 0.5, 0.1, 2), Cost(1, 3000, 1.5, 0.2, 6)]


def test_without_a_limit_nothing_is_ever_spent() -> None:
    assert exceeded_budget(BudgetSettings(), [Cost(0, 10**15, 10**6, 10**6)]) == ""


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"run_tokens": 4000}, "the run has cost 4,000 tokens, its budget is 4,000; raise budget.run_tokens"),
        ({"run_hours": 1.9}, "the run has cost 2 hours, its budget is 1.9"),
        ({"run_gib": 0.25}, "the run has cost 0.3 GiB"),
        ({"run_gpu_hours": 8}, "the run has cost 8 GPU hours, its budget is 8; raise budget.run_gpu_hours"),
        ({"generation_gpu_hours": 5}, "generation 1 has cost 6 GPU hours, the budget of a generation is 5"),
        ({"generation_tokens": 2999}, "generation 1 has cost 3,000 tokens, the budget of a generation is 2,999"),
        ({"generation_hours": 0.4}, "generation 0 has cost 0.5 hours"),
        ({"generation_gib": 0.15}, "generation 1 has cost 0.2 GiB"),
    ],
)
def test_a_budget_that_is_spent_is_named_with_what_to_do(limit: dict[str, float], said: str) -> None:
    assert exceeded_budget(BudgetSettings.model_validate(limit), COST).startswith(said)


def test_what_is_just_below_a_limit_is_affordable() -> None:
    roomy = {"run_tokens": 4001, "run_hours": 2.01, "run_gib": 0.31, "generation_tokens": 3000, "generation_hours": 1.5}
    assert exceeded_budget(BudgetSettings.model_validate(roomy), COST) == ""
