import numpy as np
import pytest

from curation.metrics.bootstrap import bootstrap, jackknife


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    without = [float(np.delete(values, np.s_[group::10]).mean()) for group in range(10)]
    low, high = jackknife(float(values.mean()), without)
    assert low is not None and high is not None
    # Twice Student's 2.26 standard errors of 0.1, which ten groups know within a third or so.
    assert 0.25 < high - low < 0.75
    assert (low + high) / 2 == pytest.approx(values.mean())


def test_the_bootstrap_interval_covers_the_true_mean_at_its_level() -> None:
    missed = 0
    for seed in range(200):
        low, high = bootstrap(np.random.default_rng(seed).normal(0, 1, 50), seed, 0.9)
        assert low is not None and high is not None
        missed += not low <= 0 <= high
    assert 8 <= missed <= 36


def test_what_is_made_of_means_has_its_interval_too() -> None:
    rows = np.stack([np.full(9, 6.0), np.full(9, 3.0)], 1)
    assert bootstrap(rows, 0, statistic=lambda means: means[:, 0] / means[:, 1]) == (2.0, 2.0)


def test_fewer_than_two_values_have_no_interval() -> None:
    assert jackknife(3.0, [3.0]) == (None, None)
    assert bootstrap(np.array([3.0]), 0) == (None, None)
    assert bootstrap(np.zeros(0), 0) == (None, None)
