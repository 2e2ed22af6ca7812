"""Limits on metrics, and the verdict that follows: go on, warn, or stop, with the reason in one sentence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Action = Literal["go", "warn", "stop"]
KNOWN_METRICS = (
    "perplexity",
    "recalibrated_perplexity",
    "bits_per_byte",
    "rare_word_coverage",
    "type_coverage",
    "types",
    "repetition",
)


class Limit(BaseModel):
    """One bound on one metric, relative to generation 0: at least or at most so many times what it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description=f"one of {', '.join(KNOWN_METRICS)}")
    at_most: float | None = Field(None, gt=0, description="times generation 0's value")
    at_least: float | None = Field(None, gt=0, description="times generation 0's value")
    action: Literal["warn", "stop"] = Field("warn", description="what follows when it does not hold")

    @model_validator(mode="after")
    def _is_one_bound(self) -> Self:
        if self.metric not in KNOWN_METRICS:
            raise ValueError(f"no metric is called {self.metric!r}; there are {', '.join(KNOWN_METRICS)}")
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a limit has either at_most or at_least")
        return self


class GateSettings(BaseModel):
    """`[gate]`: when a run should be looked at, and when it should end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: tuple[Limit, ...] = (
        Limit(metric="perplexity", at_most=1.5),
        Limit(metric="rare_word_coverage", at_least=0.7),
    )


@dataclass(frozen=True)
class Verdict:
    """What one limit has to say; `limit` is the bound in the metric's own unit."""

    action: Action
    metric: str
    value: float
    limit: float
    reason: str


def judge(settings: GateSettings, first: Mapping[str, float], now: Mapping[str, float]) -> list[Verdict]:
    """One verdict a limit, from the metrics of generation 0 and of this one.

    Raises:
        ValueError: a limit asks for a metric that was not measured.
    """
    verdicts = []
    for limit in settings.limits:
        if limit.metric not in first or limit.metric not in now:
            raise ValueError(
                f"the gate has a limit on {limit.metric}, which was not measured; measured: {', '.join(sorted(now))}"
            )
        times = limit.at_most or limit.at_least or 1.0
        bound, value = times * first[limit.metric], now[limit.metric]
        # A value that is not a number holds no limit: a model that diverged must not pass.
        broken = not (value <= bound if limit.at_most else value >= bound)
        side = "above" if limit.at_most else "below"
        side = "not comparable with" if math.isnan(value) or math.isnan(bound) else side
        reason = (
            f"{limit.metric} is {value:.4g}, {side} {times:g} x generation 0's {first[limit.metric]:.4g}"
            if broken
            else ""
        )
        verdicts.append(Verdict(limit.action if broken else "go", limit.metric, value, bound, reason))
    return verdicts


def worst(verdicts: list[Verdict]) -> Action:
    """The action that all limits together ask for."""
    order: tuple[Action, ...] = ("go", "warn", "stop")
    return max((verdict.action for verdict in verdicts), key=order.index, default="go")
