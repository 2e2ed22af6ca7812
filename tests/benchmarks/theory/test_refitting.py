"""Toy models refitted to their own samples: each policy as in the papers, many runs at once."""

import numpy as np
import pytest

from benchmarks.theory.closed_form import gaussian_variance, regression_error
from benchmarks.theory.refitting import (
    POLICIES,
    counts_of,
    density_loss,
    die,
    gaussian,
    kernel_density,
    regression_errors,
    training_data_by_generation,
)


def test_regression_forgets_by_the_law_of_its_policy() -> None:
    replace, accumulate = regression_error(111, 10, 1, 10)
    found = {policy: regression_errors(policy, 10, 0, runs=600) for policy in POLICIES}
    assert [len(errors) for errors in found.values()] == [10, 10, 10]
    assert found["replace"][-1] == pytest.approx(replace, rel=0.1)
    assert found["accumulate"][-1] == pytest.approx(accumulate, rel=0.1)
    assert found["accumulate-subsample"][-1] == pytest.approx(0.30, rel=0.1)


def test_a_replaced_gaussian_loses_its_variance_and_an_accumulated_one_keeps_it() -> None:
    human = np.random.default_rng(0).standard_normal((150, 100))
    left = {
        policy: [*training_data_by_generation(gaussian(100), policy, human, 60, 0)][-1].var(1) for policy in POLICIES
    }
    fading, likeliest = gaussian_variance(100, 60)
    assert np.median(left["replace"]) == pytest.approx(fading * likeliest, abs=0.06)
    assert min(np.median(left[policy]) for policy in POLICIES[1:]) > 0.85


@pytest.mark.parametrize("bandwidth", [0.1, 1.0])
def test_a_kernel_density_gets_worse_fastest_where_it_replaces(bandwidth: float) -> None:
    rng = np.random.default_rng(0)
    human, heldout = rng.standard_normal((10, 100)), rng.standard_normal(200)
    ends = [
        density_loss(
            [*training_data_by_generation(kernel_density(100, bandwidth), policy, human, 20, 0)][-1], bandwidth, heldout
        )
        for policy in POLICIES
    ]
    assert ends == sorted(ends, reverse=True)


def test_a_cold_die_is_one_outcome_within_a_few_rounds() -> None:
    human = np.random.default_rng(0).integers(0, 50, (20, 500)).astype(float)
    for temperature, least, most in ((1.0, 30, 50), (0.3, 1, 3)):
        *_, last = training_data_by_generation(die(500, 50, temperature), "replace", human, 4, 0)
        kinds = (counts_of(last, 50) > 0).sum(1).mean()
        assert least <= kinds <= most


def test_accumulating_keeps_every_outcome_and_subsampling_its_size() -> None:
    human = np.random.default_rng(0).integers(0, 50, (5, 200)).astype(float)
    kept = [*training_data_by_generation(die(200, 50), "accumulate", human, 6, 0)]
    assert [data.shape[1] for data in kept] == [200 * (turn + 1) for turn in range(7)]
    assert ((counts_of(kept[-1], 50) > 0) >= (counts_of(human, 50) > 0)).all()
    assert {data.shape for data in training_data_by_generation(die(200, 50), "accumulate-subsample", human, 6, 0)} == {
        (5, 200)
    }


def test_the_loss_of_a_density_is_that_of_its_formula() -> None:
    assert density_loss(np.array([[0.0]]), 1.0, np.array([1.0])) == pytest.approx(0.5 + 0.5 * np.log(2 * np.pi))
