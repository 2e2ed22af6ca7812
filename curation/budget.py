"""Limit the cost of a run, and report an exceeded budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from heirloom.settings import Settings


class BudgetSettings(Settings):
    """`[budget]`: limits on cost, checked before each generation starts; a started generation is always finished."""

    run_tokens: int | None = Field(
        None, gt=0, description="maximum number of tokens, generated plus trained on, over the whole run"
    )
    run_hours: float | None = Field(None, gt=0, description="maximum working time in hours, over the whole run")
    run_gib: float | None = Field(None, gt=0, description="maximum disk usage in GiB, over the whole run")
    run_gpu_hours: float | None = Field(
        None,
        gt=0,
        description="maximum GPU hours (working time times the GPUs of the machine), over the whole run; GPUs of "
        "remote servers "
        "are not counted",
    )
    generation_tokens: int | None = Field(
        None, gt=0, description="number of tokens of one generation above which no further one starts"
    )
    generation_hours: float | None = Field(
        None, gt=0, description="hours of one generation above which no further one starts"
    )
    generation_gib: float | None = Field(
        None, gt=0, description="GiB of one generation above which no further one starts"
    )
    generation_gpu_hours: float | None = Field(
        None, gt=0, description="GPU hours of one generation above which no further one starts"
    )


@dataclass(frozen=True)
class Cost:
    """Cost of one generation, all its attempts together."""

    generation: int
    tokens: int
    hours: float
    gib: float
    gpu_hours: float = 0.0


_UNIT_NAMES = {"tokens": "tokens", "hours": "hours", "gib": "GiB", "gpu_hours": "GPU hours"}


def exceeded_budget(settings: BudgetSettings, costs: Sequence[Cost]) -> str:
    """Describe the first budget that is exhausted; return an empty string if none is."""
    for unit, unit_name in _UNIT_NAMES.items():
        total = sum(getattr(cost, unit) for cost in costs)
        run_limit = getattr(settings, f"run_{unit}")
        if run_limit is not None and total >= run_limit:
            return (
                f"The run has used {total:,.4g} {unit_name} of its budget of {run_limit:,.4g}. "
                f"Raise `budget.run_{unit}` to continue."
            )
        generation_limit = getattr(settings, f"generation_{unit}")
        for cost in costs:
            used = getattr(cost, unit)
            if generation_limit is not None and used > generation_limit:
                return (
                    f"Generation {cost.generation} used {used:,.4g} {unit_name}; the budget of a generation is "
                    f"{generation_limit:,.4g}. Raise `budget.generation_{unit}` to continue."
                )
    return ""
