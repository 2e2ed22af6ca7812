"""Test a run for model collapse by each of eight definitions: present, absent or unknown, with evidence.

Schaeffer et al. 2025, "Position: Model Collapse Does Not Mean What You Think", arXiv:2503.03150, lists the definitions.
The tests are ours; docs/metrics.md describes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from scipy.stats import linregress

from curation.metrics.types import Metrics, Value

State = Literal["present", "absent", "unknown"]
_CATASTROPHE = 5.0
"""Multiple of generation 0's perplexity at which risk is catastrophic."""
_SHRUNK = 0.9
"""Multiple of generation 0's value below which variance, separation and precision count as lost."""
_MIN_GENERATIONS = 5
"""Generations after generation 0 that are needed to distinguish a diverging loss from one that levels off."""


@dataclass(frozen=True)
class CollapseTest:
    """Result of one definition of model collapse for one run."""

    test: str
    result: State
    evidence: str
    first_generation: int | None = None
    """First generation in which it is present, if it is and that is known."""


@dataclass(frozen=True)
class _Result:
    state: State
    evidence: str
    first_generation: int | None = None


_Test: TypeAlias = Callable[[Sequence[Metrics]], _Result]


def run_collapse_tests(history: Sequence[Metrics]) -> list[CollapseTest]:
    """Return the eight test results in the order of the paper.

    Args:
        history: metrics of every generation so far, generation 0 first.
    """
    tests = []
    for name, test in _TESTS.items():
        result = test(history)
        tests.append(CollapseTest(name, result.state, result.evidence, result.first_generation))
    return tests


def _catastrophic_risk(history: Sequence[Metrics]) -> _Result:
    def is_broken(current: Value, first: Value) -> bool:
        # Written by negation, so that NaN counts as broken.
        return not current.value < _CATASTROPHE * first.value

    return _compare_with_first(history, "perplexity", is_broken, f"at least {_CATASTROPHE:g} times")


def _any_risk_increase(history: Sequence[Metrics]) -> _Result:
    return _test_change(history, "loss_change", "nats per token of held-out loss", increase=True)


def _lost_tails(history: Sequence[Metrics]) -> _Result:
    return _test_change(history, "rare_word_coverage_change", "coverage of rare human words", increase=False)


def _diverging_risk(history: Sequence[Metrics]) -> _Result:
    """Present if the loss rises in the later half of the run at more than half the slope of the earlier half."""
    losses = [np.log(value.value) for value in _series(history, "perplexity")]
    if len(losses) <= _MIN_GENERATIONS or not np.isfinite(losses).all():
        return _Result(
            "unknown",
            f"needs {_MIN_GENERATIONS} generations after generation 0 with finite perplexity; there are "
            f"{len(losses) - 1}",
        )
    half = len(losses) // 2
    early_slope = (losses[half] - losses[1]) / (half - 1)
    late = linregress(np.arange(half, len(losses)), losses[half:])
    loss_change_low = history[-1].get(("model", "loss_change"), Value(0.0)).low
    has_risen = loss_change_low is not None and loss_change_low > 0
    is_rising = late.slope - 2 * late.stderr > 0 and late.slope > early_slope / 2
    evidence = (
        f"held-out loss changes by {late.slope:+.3g} per generation since generation {half}, "
        f"by {early_slope:+.3g} before"
    )
    return _Result("present", evidence, half) if is_rising and has_risen else _Result("absent", evidence)


def _changed_scaling_law(_: Sequence[Metrics]) -> _Result:
    return _Result("unknown", "one run has one corpus size; compare runs of several sizes to fit a scaling law")


def _test_shrinkage(history: Sequence[Metrics], metric: str) -> _Result:
    return _compare_with_first(history, metric, _has_shrunk, f"below {_SHRUNK:g} times")


def _has_shrunk(current: Value, first: Value) -> bool:
    upper = current.value if current.high is None else current.high
    # Written by negation, so that NaN counts as shrunk.
    return not upper >= _SHRUNK * first.value


_TESTS: dict[str, _Test] = {
    "catastrophic_risk": _catastrophic_risk,
    "any_risk_increase": _any_risk_increase,
    "diverging_risk": _diverging_risk,
    "changed_scaling_law": _changed_scaling_law,
    "collapsing_variance": partial(_test_shrinkage, metric="embedding_trace"),
    "mode_entanglement": partial(_test_shrinkage, metric="mode_separation"),
    "lost_tails": _lost_tails,
    "hallucinated_data": partial(_test_shrinkage, metric="embedding_precision"),
}


def _series(history: Sequence[Metrics], metric: str) -> list[Value]:
    """Return the values of a metric of the model, for the generations that have it."""
    return [metrics["model", metric] for metrics in history if ("model", metric) in metrics]


def _compare_with_first(
    history: Sequence[Metrics], metric: str, is_broken: Callable[[Value, Value], bool], bound: str
) -> _Result:
    values = _series(history, metric)
    if len(values) < 2:
        return _Result("unknown", f"{metric} needs two measurements; there are {len(values)}")
    first, last = values[0], values[-1]
    evidence = f"{metric} is {last.value:.4g}, against {first.value:.4g} in generation 0; present would be {bound} that"
    return _since([is_broken(value, first) for value in values], evidence)


def _test_change(history: Sequence[Metrics], metric: str, unit: str, *, increase: bool) -> _Result:
    """Present if the whole interval of a change is above 0 (`increase`) or below 0."""
    values = _series(history, metric)
    if len(values) < 2 or values[-1].low is None or values[-1].high is None:
        return _Result("unknown", f"{metric} has no interval yet")
    last = values[-1]
    evidence = f"{last.value:+.3g} {unit} against generation 0, 99 % interval [{last.low:.3g}, {last.high:.3g}]"
    return _since([_is_significant(value, increase=increase) for value in values], evidence)


def _is_significant(value: Value, *, increase: bool) -> bool:
    if value.low is None or value.high is None:
        return False
    return value.low > 0 if increase else value.high < 0


def _since(broken: Sequence[bool], evidence: str) -> _Result:
    """Return the result of the last generation, with the first of the consecutive generations that are broken."""
    if not broken[-1]:
        return _Result("absent", evidence)
    first = len(broken) - 1
    while first and broken[first - 1]:
        first -= 1
    return _Result("present", evidence, first)
