"""The three sources of error, each alone: what Shumailov et al. say of them."""

import numpy as np
import pytest

from benchmarks.theory.sources import POINTS, ErrorSources, divergences, one_hump, two_humps


def test_without_any_of_them_nothing_drifts() -> None:
    assert divergences(two_humps(), ErrorSources(), 10, 0, 1) == [0.0] * 10


def test_finite_samples_drift_in_every_round_and_less_with_more_of_them() -> None:
    few, many = (divergences(two_humps(), ErrorSources(samples=size), 10, 0, 30) for size in (300, 30_000))
    assert (np.diff(few) > 0).all()
    assert many[-1] < few[-1] / 5


def test_limited_capacity_bites_in_the_first_round_alone() -> None:
    found = divergences(two_humps(), ErrorSources(one_gaussian=True), 10, 0, 1)
    assert found[0] > 0.3
    assert found == pytest.approx([found[0]] * 10, abs=1e-9)
    assert divergences(one_hump(), ErrorSources(one_gaussian=True), 10, 0, 1)[-1] < 1e-9


def test_an_optimizer_that_stops_early_adds_its_error_in_every_round() -> None:
    short, long = (divergences(two_humps(), ErrorSources(steps=steps), 6, 0, 1) for steps in (100, 400))
    assert (np.diff(short) > 0).all()
    assert long[-1] < short[-1]


def test_humps_are_shares_with_the_variance_they_should_have() -> None:
    assert one_hump().sum() == pytest.approx(1)
    assert one_hump() @ POINTS**2 == pytest.approx(1)
    assert two_humps() @ POINTS**2 == pytest.approx(4 + 0.49)
