"""Model collapse by each of the eight meanings that the word has: present, absent or unknown, with its evidence.

Schaeffer et al. 2025, "Position: Model Collapse Does Not Mean What You Think", arXiv:2503.03150, lists the meanings; the tests
are ours, and docs/metrics.md tells them. A profile is of everything measured so far, generation 0 first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import linregress

from curation.metrics.types import Metrics, Value

State = Literal["present", "absent", "unknown"]
_CATASTROPHE = 5.0
"""Times generation 0's perplexity."""
_SHRUNK = 0.9
"""Times generation 0's value, below which variance, separation and precision count as lost."""
_FEWEST = 5
"""Generations after the first that it takes to tell a rise that goes on from one that levels off."""


@dataclass(frozen=True)
class CollapseTest:
    """What one meaning of the word comes to for one run."""

    test: str
    result: State
    evidence: str
    first_generation: int | None = None
    """Since when, where it is present and that can be said."""


def run_collapse_tests(history: Sequence[Metrics]) -> list[CollapseTest]:
    """The eight findings, in the order of the paper; generations are places in `told`."""
    return [CollapseTest(name, *test(history)) for name, test in _TESTS.items()]


_Found = tuple[State, str, int | None]


def _catastrophe(told: Sequence[Metrics]) -> _Found:
    def broken(now: Value, first: Value) -> bool:
        return not now.value < _CATASTROPHE * first.value

    return _against_first(told, "model", "perplexity", broken, f"at least {_CATASTROPHE:g} times")


def _any_increase(told: Sequence[Metrics]) -> _Found:
    return _changed(told, "loss_change", 1, "nats a token of held-out loss")


def _tail(told: Sequence[Metrics]) -> _Found:
    return _changed(told, "rare_word_coverage_change", -1, "of rare human words")


def _divergence(told: Sequence[Metrics]) -> _Found:
    losses = [np.log(value.value) for value in _series(told, "model", "perplexity")]
    if len(losses) <= _FEWEST or not np.isfinite(losses).all():
        return (
            "unknown",
            f"it takes {_FEWEST} generations to tell a rise that goes on; there are {len(losses) - 1}",
            None,
        )
    half = len(losses) // 2
    early, late = (losses[half] - losses[1]) / (half - 1), linregress(np.arange(half, len(losses)), losses[half:])
    risen = told[-1].get(("model", "loss_change"), Value(0.0)).low
    rising = late.slope - 2 * late.stderr > 0 and late.slope > early / 2 and risen is not None and risen > 0
    said = f"held-out loss goes by {late.slope:+.3g} a generation since generation {half}, by {early:+.3g} before"
    return ("present", said, half) if rising else ("absent", said, None)


def _scaling(_: Sequence[Metrics]) -> _Found:
    return (
        "unknown",
        "one run has one size of corpus; compare runs over several sizes to see the law that they follow",
        None,
    )


def _variance(told: Sequence[Metrics]) -> _Found:
    return _against_first(told, "model", "embedding_trace", _shrunk, f"below {_SHRUNK:g} times")


def _entanglement(told: Sequence[Metrics]) -> _Found:
    return _against_first(told, "model", "mode_separation", _shrunk, f"below {_SHRUNK:g} times")


def _hallucination(told: Sequence[Metrics]) -> _Found:
    return _against_first(told, "model", "embedding_precision", _shrunk, f"below {_SHRUNK:g} times")


def _shrunk(now: Value, first: Value) -> bool:
    return not (now.value if now.high is None else now.high) >= _SHRUNK * first.value


_TESTS: dict[str, Callable[[Sequence[Metrics]], _Found]] = {
    "catastrophic_risk": _catastrophe,
    "any_risk_increase": _any_increase,
    "diverging_risk": _divergence,
    "changed_scaling_law": _scaling,
    "collapsing_variance": _variance,
    "mode_entanglement": _entanglement,
    "lost_tails": _tail,
    "hallucinated_data": _hallucination,
}


def _series(told: Sequence[Metrics], subject: str, metric: str) -> list[Value]:
    return [metrics[subject, metric] for metrics in told if (subject, metric) in metrics]


def _against_first(
    told: Sequence[Metrics], subject: str, metric: str, broken: Callable[[Value, Value], bool], bound: str
) -> _Found:
    values = _series(told, subject, metric)
    if len(values) < 2:
        return "unknown", f"{metric} has been measured {len(values)} time{'s' * (len(values) != 1)}; it takes two", None
    said = f"{metric} is {values[-1].value:.4g}, in generation 0 it was {values[0].value:.4g}; present would be {bound} that"
    return _since([broken(now, values[0]) for now in values], said)


def _changed(told: Sequence[Metrics], metric: str, sign: int, unit: str) -> _Found:
    values = _series(told, "model", metric)
    if len(values) < 2 or values[-1].low is None or values[-1].high is None:
        return "unknown", f"{metric} has no interval yet", None
    last = values[-1]
    said = f"{last.value:+.3g} {unit} against generation 0, 99 % interval [{last.low:.3g}, {last.high:.3g}]"
    gone = [
        one.low is not None and one.high is not None and (one.low > 0 if sign > 0 else one.high < 0) for one in values
    ]
    return _since(gone, said)


def _since(broken: Sequence[bool], said: str) -> _Found:
    if not broken[-1]:
        return "absent", said, None
    since = len(broken) - 1
    while since and broken[since - 1]:
        since -= 1
    return "present", said, since
