"""Each meaning of collapse on a course that has it, and on one that has not."""

import numpy as np
import pytest

from curation.metrics.collapse_tests import run_collapse_tests
from curation.metrics.types import Value


def _history(perplexity: list[float], **others: list[Value]) -> list[dict[tuple[str, str], Value]]:
    history = []
    for place, value in enumerate(perplexity):
        change = np.log(value / perplexity[0])
        reach = 0.01 if place else 0.0
        metrics = {"perplexity": Value(value), "loss_change": Value(change, change - reach, change + reach)}
        metrics |= {name: values[place] for name, values in others.items()}
        history.append({("model", name): one for name, one in metrics.items()})
    return history


def _states(history: list[dict[tuple[str, str], Value]]) -> dict[str, tuple[str, int | None]]:
    return {one.test: (one.result, one.first_generation) for one in run_collapse_tests(history)}


def test_before_anything_was_compared_all_is_unknown() -> None:
    states = _states(_history([100.0]))
    assert len(states) == 8
    assert set(states.values()) == {("unknown", None)}
    assert all(one.evidence for one in run_collapse_tests(_history([100.0])))


def test_loss_that_rises_without_end_is_all_three_kinds_of_risk() -> None:
    states = _states(_history([100 * 1.5**generation for generation in range(9)]))
    assert states["catastrophic_risk"] == ("present", 4)
    assert states["any_risk_increase"] == ("present", 1)
    assert states["diverging_risk"][0] == "present"
    assert states["changed_scaling_law"][0] == "unknown"


def test_loss_that_levels_off_does_not_diverge() -> None:
    states = _states(_history([100, 120, 130, 133, 134, 134.2, 134.3, 134.3]))
    assert states["catastrophic_risk"] == ("absent", None)
    assert states["any_risk_increase"] == ("present", 1)
    assert states["diverging_risk"] == ("absent", None)


def test_a_model_that_gets_better_has_none_of_it() -> None:
    states = _states(_history([100, 95, 93, 92, 92, 91, 91]))
    assert {states[name][0] for name in ("catastrophic_risk", "any_risk_increase", "diverging_risk")} == {"absent"}


@pytest.mark.parametrize(
    ("definition", "metric"),
    [
        ("collapsing_variance", "embedding_trace"),
        ("mode_entanglement", "mode_separation"),
        ("hallucinated_data", "embedding_precision"),
    ],
)
def test_what_shrinks_beyond_doubt_is_present_since_then(definition: str, metric: str) -> None:
    falling = [Value(one, one - 0.02, one + 0.02) for one in (0.8, 0.78, 0.5, 0.4)]
    level = [Value(one, one - 0.02, one + 0.02) for one in (0.8, 0.78, 0.79, 0.77)]
    assert _states(_history([100.0] * 4, **{metric: falling}))[definition] == ("present", 2)
    assert _states(_history([100.0] * 4, **{metric: level}))[definition] == ("absent", None)


def test_lost_tails_are_a_change_whose_interval_is_below_none() -> None:
    lost = [Value(0, 0, 0), Value(-0.02, -0.05, 0.01), Value(-0.1, -0.13, -0.07)]
    assert _states(_history([100.0] * 3, rare_word_coverage_change=lost))["lost_tails"] == ("present", 2)
    assert _states(_history([100.0] * 2, rare_word_coverage_change=lost[:2]))["lost_tails"] == ("absent", None)


def test_a_model_that_diverged_is_a_catastrophe() -> None:
    assert _states(_history([100.0, float("nan")]))["catastrophic_risk"] == ("present", 1)
