"""Compare metrics with limits and decide: go, warn, retry with more human data, roll back, or stop.

The bound of a limit is a multiple of generation 0's value or of human text's value, or a fixed number. With patience, a
limit is broken only after several generations in a row beyond the bound.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from curation.metrics.settings import METRICS
from curation.metrics.types import Metrics, Value
from heirloom.errors import HeirloomError, did_you_mean
from heirloom.settings import Settings

Action = Literal["go", "warn", "raise_human_fraction", "roll_back", "stop"]
Subject = Literal["model", "candidates", "corpus"]
ACTIONS: tuple[Action, ...] = ("go", "warn", "raise_human_fraction", "roll_back", "stop")
"""From the mildest to the most severe: the most severe action of any broken limit is taken."""

_CUSTOM_PREFIX = "custom."
_BASELINES = {"generation_0": "generation 0's", "human": "human text's"}


class Limit(Settings):
    """One bound on one metric: `at_most` or `at_least`, times the baseline's value or as a fixed number."""

    metric: str = Field(description="name of a metric (docs/metrics.md), or custom.NAME")
    subject: Subject = Field("model", description="subject that was measured: model, candidates or corpus")
    baseline: Literal["generation_0", "human", "value"] = Field(
        "generation_0",
        description="unit of the bound: `generation_0`: times the value of generation 0; `human`: times the value of "
        "held-out human "
        "text; `value`: a fixed number",
    )
    at_most: float | None = Field(None, description="upper bound")
    at_least: float | None = Field(None, description="lower bound")
    require_significance: bool = Field(False, description="broken only if the whole interval is beyond the bound")
    patience: int = Field(1, ge=1, description="generations in a row beyond the bound before the limit is broken")
    action: Literal["warn", "raise_human_fraction", "roll_back", "stop"] = Field(
        "warn", description="action to take when the limit is broken"
    )

    @model_validator(mode="after")
    def _is_one_bound(self) -> Self:
        if self.metric not in METRICS and not (
            self.metric.startswith(_CUSTOM_PREFIX) and self.metric != _CUSTOM_PREFIX
        ):
            raise HeirloomError(
                f"Unknown metric {self.metric!r}.{did_you_mean(self.metric, METRICS)} Metrics are "
                f"{', '.join(METRICS)}, and custom.NAME for your own functions."
            )
        if (self.at_most is None) == (self.at_least is None):
            raise HeirloomError(f"The limit on {self.metric} must have exactly one of `at_most` and `at_least`.")
        if not math.isfinite(self.bound) or (self.baseline != "value" and self.bound <= 0):
            raise HeirloomError(
                f"The bound of the limit on {self.metric} is {self.bound:g}. It must be finite, and above 0 unless "
                "`baseline` is 'value'."
            )
        return self

    @property
    def bound(self) -> float:
        """The given one of `at_most` and `at_least`."""
        return float(self.at_most if self.at_most is not None else self.at_least or 0)


class GateSettings(Settings):
    """`[gate]`: limits on metrics, and the changes made when they are broken."""

    limits: tuple[Limit, ...] = (
        Limit(metric="perplexity", at_most=1.5),
        Limit(metric="rare_word_coverage", at_least=0.7),
        Limit(metric="rare_bigram_coverage", at_least=0.8, require_significance=True),
        Limit(metric="vocabulary_retained", subject="corpus", at_least=0.9),
    )
    human_fraction_step: float = Field(
        0.1, gt=0, le=1, description="raise_human_fraction: increase of a corpus's human fraction per retry"
    )
    max_retries: int = Field(
        3, ge=1, description="raise_human_fraction: retries of one generation before the run stops"
    )


@dataclass(frozen=True)
class Verdict:
    """Result of one limit; `limit` is the bound in the metric's unit, `low` and `high` the interval of the value."""

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
    """First of the consecutive generations beyond the bound; None if the value is within it."""


def evaluate_gate(settings: GateSettings, history: Sequence[Metrics]) -> list[Verdict]:
    """Return one verdict for each limit.

    Args:
        settings: the limits.
        history: metrics of every generation so far, generation 0 first, the one to judge last.

    Raises:
        HeirloomError: a metric with a limit was not measured.
    """
    return [_verdict(limit, history) for limit in settings.limits]


def most_severe(verdicts: Sequence[Verdict]) -> Action:
    """Return the most severe action of all verdicts; `go` without any."""
    return max((verdict.action for verdict in verdicts), key=ACTIONS.index, default="go")


def _verdict(limit: Limit, history: Sequence[Metrics]) -> Verdict:
    key, generation = (limit.subject, limit.metric), len(history) - 1
    if key not in history[-1]:
        # Generation 0 is trained on human text and has no candidates.
        if limit.subject == "candidates" and generation == 0:
            return Verdict("go", limit.metric, None, None, "", subject=limit.subject)
        raise HeirloomError(_missing_metric_message(limit, history[-1]))
    first_broken = generation + 1
    while first_broken and _is_beyond_bound(limit, history, first_broken - 1):
        first_broken -= 1
    num_broken = generation + 1 - first_broken
    is_broken = num_broken >= limit.patience
    value, bound = history[-1][key], _bound(limit, history, generation)
    return Verdict(
        action=limit.action if is_broken else "go",
        metric=limit.metric,
        value=_nan_to_none(value.value),
        limit=_nan_to_none(bound),
        reason=_reason(limit, value, bound, _Streak(first_broken, generation)) if is_broken else "",
        low=value.low,
        high=value.high,
        subject=limit.subject,
        generation=generation,
        first_generation=first_broken if num_broken else None,
    )


def _missing_metric_message(limit: Limit, metrics: Metrics) -> str:
    measured = ", ".join(sorted(metric for subject, metric in metrics if subject == limit.subject)) or "none"
    return (
        f"The gate has a limit on {limit.metric} of the {limit.subject}, which was not measured. "
        f"Measured metrics: {measured}. Change or remove the limit."
    )


def _bound(limit: Limit, history: Sequence[Metrics], generation: int) -> float:
    """Return the bound in the metric's unit."""
    if limit.baseline == "value":
        return limit.bound
    key = (limit.subject, limit.metric)
    if limit.baseline == "human":
        human_key = ("human", limit.metric)
        if human_key not in history[generation]:
            raise HeirloomError(
                f"The limit on {limit.metric} has baseline 'human', but {limit.metric} is not measured for human text. "
                "Use `baseline = 'generation_0'`."
            )
        return limit.bound * history[generation][human_key].value
    first_measured = next(metrics[key].value for metrics in history if key in metrics)
    return limit.bound * first_measured


def _is_beyond_bound(limit: Limit, history: Sequence[Metrics], generation: int) -> bool:
    key = (limit.subject, limit.metric)
    if key not in history[generation]:
        return False
    value, bound = history[generation][key], _bound(limit, history, generation)
    nearest_end = value.low if limit.at_most is not None else value.high
    compared = nearest_end if limit.require_significance and nearest_end is not None else value.value
    # NaN satisfies no comparison, so a model that diverged is always beyond the bound.
    within = compared <= bound if limit.at_most is not None else compared >= bound
    return not within


@dataclass(frozen=True)
class _Streak:
    """Consecutive generations beyond a bound."""

    first: int
    last: int


def _reason(limit: Limit, value: Value, bound: float, streak: _Streak) -> str:
    side = "above" if limit.at_most is not None else "below"
    if math.isnan(value.value) or math.isnan(bound):
        side = "not comparable with"
    interval = f" [{value.low:.4g}, {value.high:.4g}]" if value.low is not None and value.high is not None else ""
    baseline = "" if limit.baseline == "value" else f" = {limit.bound:g} x {_BASELINES[limit.baseline]}"
    since = f", since generation {streak.first}" if streak.first < streak.last else ""
    return (
        f"{limit.metric} of the {limit.subject} is {value.value:.4g}{interval} in generation {streak.last}, "
        f"{side} {bound:.4g}{baseline}{since}"
    )


def _nan_to_none(value: float) -> float | None:
    return None if math.isnan(value) else value
