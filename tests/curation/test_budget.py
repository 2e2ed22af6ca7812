import pytest

from curation.budget import BudgetSettings, Cost, exceeded_budget

COST = [Cost(0, 1000, 0.5, 0.1, 2), Cost(1, 3000, 1.5, 0.2, 6)]


def test_without_a_limit_no_budget_is_exceeded() -> None:
    assert exceeded_budget(BudgetSettings(), [Cost(0, 10**15, 10**6, 10**6)]) == ""


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"run_tokens": 4000}, "The run has used 4,000 tokens of its budget of 4,000. Raise `budget.run_tokens"),
        ({"run_hours": 1.9}, "The run has used 2 hours of its budget of 1.9"),
        ({"run_gib": 0.25}, "The run has used 0.3 GiB"),
        ({"run_gpu_hours": 8}, "The run has used 8 GPU hours of its budget of 8. Raise `budget.run_gpu_hours"),
        ({"generation_gpu_hours": 5}, "Generation 1 used 6 GPU hours; the budget of a generation is 5"),
        ({"generation_tokens": 2999}, "Generation 1 used 3,000 tokens; the budget of a generation is 2,999"),
        ({"generation_hours": 0.4}, "Generation 0 used 0.5 hours"),
        ({"generation_gib": 0.15}, "Generation 1 used 0.2 GiB"),
    ],
)
def test_an_exceeded_budget_is_named_with_a_remedy(limit: dict[str, float], message: str) -> None:
    assert exceeded_budget(BudgetSettings.model_validate(limit), COST).startswith(message)


def test_costs_below_the_limits_are_within_budget() -> None:
    limits = {
        "run_tokens": 4001,
        "run_hours": 2.01,
        "run_gib": 0.31,
        "generation_tokens": 3000,
        "generation_hours": 1.5,
    }
    assert exceeded_budget(BudgetSettings.model_validate(limits), COST) == ""
