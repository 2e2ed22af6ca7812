"""What a run may cost, and the sentence that is said when it is spent."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


class BudgetSettings(BaseModel):
    """`[budget]`: what a run may cost. Looked at before a generation begins; one that has begun is finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_tokens: int | None = Field(None, gt=0, description="tokens spoken and learned from, all generations together")
    run_hours: float | None = Field(None, gt=0, description="hours of work, all generations together")
    run_gib: float | None = Field(None, gt=0, description="GiB on the disk, all generations together")
    run_gpu_hours: float | None = Field(
        None,
        gt=0,
        description="hours of work times the cards of the machine that did it, all generations together; cards of servers "
        "elsewhere are not counted",
    )
    generation_tokens: int | None = Field(None, gt=0, description="the same of one generation: no next one after more")
    generation_hours: float | None = Field(None, gt=0, description="the same of one generation: no next one after more")
    generation_gib: float | None = Field(None, gt=0, description="the same of one generation: no next one after more")
    generation_gpu_hours: float | None = Field(
        None, gt=0, description="the same of one generation: no next one after more"
    )


@dataclass(frozen=True)
class Cost:
    """What one generation has cost, every attempt at it together."""

    generation: int
    tokens: int
    hours: float
    gib: float
    gpu_hours: float = 0.0


_UNITS = {"tokens": "tokens", "hours": "hours", "gib": "GiB", "gpu_hours": "GPU hours"}


def exceeded_budget(settings: BudgetSettings, costs: Sequence[Cost]) -> str:
    """Which budget is spent, in one sentence; empty where none is."""
    for unit, said in _UNITS.items():
        whole = sum(getattr(one, unit) for one in costs)
        limit = getattr(settings, f"run_{unit}")
        if limit is not None and whole >= limit:
            return f"the run has cost {whole:,.4g} {said}, its budget is {limit:,.4g}; raise budget.run_{unit} to go on"
        limit = getattr(settings, f"generation_{unit}")
        for one in costs:
            if limit is not None and getattr(one, unit) > limit:
                return (
                    f"generation {one.generation} has cost {getattr(one, unit):,.4g} {said}, the budget of a generation "
                    f"is {limit:,.4g}; raise budget.generation_{unit} to go on"
                )
    return ""
