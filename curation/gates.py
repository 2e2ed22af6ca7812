"""Limits on metrics, and the verdict that follows: go on, warn, redo with more human text, go back, or stop, and why.

A limit is held against generation 0, against human text measured alike, or against a number as it is. With patience it takes
several generations in a row to break it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.metrics.settings import METRICS
from curation.metrics.types import Metrics, Value
from heirloom.errors import HeirloomError

Action = Literal["go", "warn", "raise_human_fraction", "roll_back", "stop"]


Subject = Literal["model", "candidates", "corpus"]


ACTIONS: tuple[Action, ...] = ("go", "warn", "raise_human_fraction", "roll_back", "stop")
"""The further right, the more it changes: the rightmost that any limit asks for is done."""


_OWN = "custom."


_AGAINST = {"generation_0": "generation 0's", "human": "human text's"}


class Limit(BaseModel):
    """One bound on one metric: at least or at most so many times what it is held against, or a number as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description="a metric of docs/metrics.md, or custom.NAME")
    subject: Subject = Field("model", description="of what: model, candidates or corpus")
    baseline: Literal["generation_0", "human", "value"] = Field(
        "generation_0",
        description="generation_0: times generation 0's; human: times that of held-out human text; value: as it stands",
    )
    at_most: float | None = Field(None, description="the most it may be")
    at_least: float | None = Field(None, description="the least it may be")
    require_significance: bool = Field(False, description="broken only where the whole interval is beyond the bound")
    patience: int = Field(1, ge=1, description="generations in a row that it takes to break it")
    action: Literal["warn", "raise_human_fraction", "roll_back", "stop"] = Field(
        "warn", description="what follows when it does not hold"
    )

    @model_validator(mode="after")
    def _is_one_bound(self) -> Self:
        if self.metric not in METRICS and not (self.metric.startswith(_OWN) and self.metric != _OWN):
            raise HeirloomError(
                f"no metric is called {self.metric!r}; there are {', '.join(METRICS)}, and custom.NAME for your own"
            )
        if (self.at_most is None) == (self.at_least is None):
            raise HeirloomError("a limit has either at_most or at_least")
        if not math.isfinite(self.bound) or (self.baseline != "value" and self.bound <= 0):
            raise HeirloomError(
                f"{self.bound:g} is no bound: times {_AGAINST.get(self.baseline, '')} value it must be above 0"
            )
        return self

    @property
    def bound(self) -> float:
        """The number that is given."""
        return float(self.at_most if self.at_most is not None else self.at_least or 0)


class GateSettings(BaseModel):
    """`[gate]`: when a run should be looked at, when it should change, and when it should end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: tuple[Limit, ...] = (
        Limit(metric="perplexity", at_most=1.5),
        Limit(metric="rare_word_coverage", at_least=0.7),
        Limit(metric="rare_bigram_coverage", at_least=0.8, require_significance=True),
        Limit(metric="vocabulary_retained", subject="corpus", at_least=0.9),
    )
    human_fraction_step: float = Field(
        0.1, gt=0, le=1, description="raise_human_fraction: how much is added to the human share of a corpus"
    )
    max_retries: int = Field(3, ge=1, description="raise_human_fraction: redoes of one generation before the run stops")


@dataclass(frozen=True)
class Verdict:
    """What one limit has to say; `limit` is the bound in the metric's own unit, `low` and `high` the value's interval."""

    action: Action
    metric: str
    value: float | None
    limit: float | None
    reason: str
    low: float | None = None
    high: float | None = None
    subject: str = "model"
    generation: int = 0
    first_generation: int | None = None
    """First generation of those in a row that broke the limit; None where it holds."""


def evaluate_gate(settings: GateSettings, history: Sequence[Metrics]) -> list[Verdict]:
    """One verdict a limit, from the metrics of every generation so far, generation 0 first, the one to judge last.

    Raises:
        HeirloomError: a limit asks for a metric that was not measured.
    """
    return [_verdict(limit, history) for limit in settings.limits]


def most_severe(verdicts: Sequence[Verdict]) -> Action:
    """The action that all limits together ask for."""
    return max((verdict.action for verdict in verdicts), key=ACTIONS.index, default="go")


def _verdict(limit: Limit, told: Sequence[Metrics]) -> Verdict:
    key, now = (limit.subject, limit.metric), len(told) - 1
    if key not in told[-1]:
        # Nothing has spoken before generation 1.
        if limit.subject == "candidates" and now == 0:
            return Verdict("go", limit.metric, None, None, "", subject=limit.subject)
        known = ", ".join(sorted(metric for subject, metric in told[-1] if subject == limit.subject)) or "nothing"
        raise HeirloomError(
            f"the gate has a limit on {limit.metric} of the {limit.subject}, which was not measured; measured: {known}"
        )
    since = now + 1
    while since and _broken(limit, told, since - 1):
        since -= 1
    value, bound = told[-1][key], _bound(limit, told, now)
    tired = now + 1 - since >= limit.patience
    said = _reason(limit, value, bound, now, since) if since <= now else ""
    return Verdict(
        limit.action if tired else "go",
        limit.metric,
        _number(value.value),
        _number(bound),
        said if tired else "",
        value.low,
        value.high,
        limit.subject,
        now,
        since if since <= now else None,
    )


def _bound(limit: Limit, told: Sequence[Metrics], generation: int) -> float:
    """The bound in the metric's own unit."""
    if limit.baseline == "value":
        return limit.bound
    key = (limit.subject, limit.metric)
    if limit.baseline == "human":
        if ("human", limit.metric) not in told[generation]:
            raise HeirloomError(
                f"the gate holds {limit.metric} against human text, for which it is not measured; use baseline = 'generation_0'"
            )
        return limit.bound * told[generation]["human", limit.metric].value
    return limit.bound * next(metrics[key].value for metrics in told if key in metrics)


def _broken(limit: Limit, told: Sequence[Metrics], generation: int) -> bool:
    key = (limit.subject, limit.metric)
    if key not in told[generation]:
        return False
    value, bound = told[generation][key], _bound(limit, told, generation)
    nearest = value.low if limit.at_most is not None else value.high
    held = nearest if limit.require_significance and nearest is not None else value.value
    # A value that is not a number holds no limit: a model that diverged must not pass.
    return not (held <= bound if limit.at_most is not None else held >= bound)


def _reason(limit: Limit, value: Value, bound: float, now: int, since: int) -> str:
    side = "above" if limit.at_most is not None else "below"
    if math.isnan(value.value) or math.isnan(bound):
        side = "not comparable with"
    span = f" [{value.low:.4g}, {value.high:.4g}]" if value.low is not None and value.high is not None else ""
    against = "" if limit.baseline == "value" else f" = {limit.bound:g} x {_AGAINST[limit.baseline]}"
    streak = f", since generation {since}" if since < now else ""
    return f"{limit.metric} of the {limit.subject} is {value.value:.4g}{span} in generation {now}, {side} {bound:.4g}{against}{streak}"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
