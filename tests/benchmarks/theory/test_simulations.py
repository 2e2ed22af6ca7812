"""Simulations of feedback, refitting, sources and verification against known results."""

import numpy as np
import pytest

from benchmarks.theory.closed_form import gaussian_variance, regression_error, verifier_break_even
from benchmarks.theory.feedback import chosen_among, curated_trajectories, effective_types, reward_variance
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
from benchmarks.theory.sources import POINTS, ErrorSources, divergences, one_hump, two_humps
from benchmarks.theory.verifying import accuracy

REWARD = np.linspace(0, 2, 50)


@pytest.mark.parametrize(
    ("share", "types", "variance"), [(0, 2.4, 0.001), (0.1, 7.1, 0.156), (0.3, 25.7, 0.327), (0.5, 42.7, 0.365)]
)
def test_the_human_share_decides_how_much_is_left(share: float, types: float, variance: float) -> None:
    last = curated_trajectories([REWARD], share, 30)[-1]
    assert effective_types(last) == pytest.approx(types, abs=0.05)
    assert reward_variance(last, REWARD) == pytest.approx(variance, abs=0.001)


def test_without_a_human_share_reward_rises_and_one_outcome_is_left() -> None:
    trajectory = curated_trajectories([REWARD], 0, 300)
    assert (np.diff(trajectory @ REWARD) > 0).all()
    assert effective_types(trajectory[-1]) == pytest.approx(1, abs=0.01)


def test_two_opposing_rewards_keep_both_modes() -> None:
    last = curated_trajectories([REWARD, 2 - REWARD], 0, 300)[-1]
    assert last[0] == pytest.approx(last[-1])
    assert last[0] > 0.3


def test_choice_among_many_answers_is_the_law() -> None:
    even = np.full(50, 0.02)
    law = curated_trajectories([REWARD], 0, 1)[1]
    apart = [np.abs(chosen_among(even, REWARD, many, 10_000, 0) - law).sum() / 2 for many in (2, 50)]
    assert apart[1] < 0.04 < 0.1 < apart[0]


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


@pytest.mark.parametrize(("right", "wrong"), [(1.0, 1.0), (0.9, 0.3), (0.7, 0.05)])
def test_accuracy_switches_at_the_break_even(right: float, wrong: float) -> None:
    edge = verifier_break_even(right, wrong)
    below, above = (np.mean([accuracy(edge + away, right, wrong, seed) for seed in range(4)]) for away in (-0.02, 0.02))
    assert below > 0.7
    assert above < 0.3


def test_more_labels_make_it_better_below_and_worse_beyond() -> None:
    for wrong, better in ((0.48, 1), (0.52, -1)):
        few, many = (accuracy(wrong, 1, 1, 0, records=records) for records in (2_000, 60_000))
        assert better * (many - few) > 0.1


def test_without_a_wrong_label_it_is_right() -> None:
    assert accuracy(0, 1, 1, 0) > 0.99
