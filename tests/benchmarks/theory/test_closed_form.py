import numpy as np
import pytest

from benchmarks.theory.closed_form import (
    admissible_synthetic,
    collision_probability,
    compounded_temperature,
    fresh_loop_error,
    gaussian_variance,
    label_shift_error,
    nucleus_mass,
    regression_error,
    truncated_tail_error,
    verifier_break_even,
)


@pytest.mark.slow
def test_collision_probability_rises_as_computed() -> None:
    human = 1 / np.arange(1, 201)
    human /= human.sum()
    first, runs = float((human**2).sum()), 3000
    for generations in (1, 10, 30):
        found = []
        for seed in range(runs):
            rng, shares = np.random.default_rng(seed), human
            for _ in range(generations):
                shares = rng.multinomial(500, shares) / 500
            found.append((shares**2).sum())
        assert np.mean(found) == pytest.approx(collision_probability(first, 500, generations), rel=0.03)


def test_the_variance_of_a_refitted_gaussian_falls_as_computed() -> None:
    rng = np.random.default_rng(0)
    unbiased = likeliest = np.ones(4000)
    for _ in range(100):
        scale = rng.chisquare(99, 4000)
        unbiased, likeliest = unbiased * scale / 99, likeliest * scale / 100
    median, mean = gaussian_variance(100, 100)
    assert median == pytest.approx(0.36, abs=0.04)
    assert np.median(unbiased) == pytest.approx(median, abs=0.04)
    assert mean == pytest.approx(0.366, abs=0.001)
    assert likeliest.mean() == pytest.approx(mean, abs=0.02)


def test_regression_error_grows_linearly_with_replaced_and_stays_bounded_with_accumulated_data() -> None:
    samples, dimensions, generations = 111, 10, 10
    replace, accumulate = regression_error(samples, dimensions, 1, generations)
    assert (replace, accumulate) == (pytest.approx(1.0), pytest.approx(0.155, abs=0.001))
    rng, runs = np.random.default_rng(1), 120
    found: dict[str, list[float]] = {"replace": [], "accumulate": []}
    for _ in range(runs):
        inputs = rng.standard_normal((samples, dimensions))
        inverse = np.linalg.pinv(inputs)
        single, pooled = np.zeros(dimensions), np.zeros(dimensions)
        for turn in range(generations):
            single = inverse @ (inputs @ single + rng.standard_normal(samples))
            # The mean of all fits on the same inputs is the fit of all labels together.
            pooled += (inverse @ (inputs @ pooled + rng.standard_normal(samples)) - pooled) / (turn + 1)
        found["replace"].append(single @ single)
        found["accumulate"].append(pooled @ pooled)
    assert np.mean(found["replace"]) == pytest.approx(replace, rel=0.1)
    assert np.mean(found["accumulate"]) == pytest.approx(accumulate, rel=0.1)


def test_label_shift_leaves_an_error_that_more_data_does_not_reduce() -> None:
    rng, samples, dimensions = np.random.default_rng(2), 20_000, 20
    for shifted in (0.1, 0.5):
        inputs = rng.standard_normal((samples, dimensions))
        shift = np.eye(dimensions)[0]
        wrong = np.arange(samples) < shifted * samples
        labels = inputs @ shift * wrong + rng.standard_normal(samples)
        fit = np.linalg.lstsq(inputs, labels, rcond=None)[0]
        assert fit @ fit == pytest.approx(label_shift_error(samples, dimensions, 1, shifted, 1), rel=0.15)


@pytest.mark.parametrize(("right", "wrong"), [(1.0, 1.0), (0.9, 0.3), (0.7, 0.05)])
def test_a_verifier_helps_up_to_its_break_even_and_not_beyond(right: float, wrong: float) -> None:
    edge = verifier_break_even(right, wrong)
    for share, better in ((edge - 0.02, True), (edge + 0.02, False)):
        kept_right, kept_wrong = (1 - share) * right, share * wrong
        assert (kept_right > kept_wrong) == better


def test_a_fresh_loop_gains_from_synthetic_data_only_without_sampling_bias() -> None:
    sizes = (40, 160, 640)
    alone = fresh_loop_error(40, 0, 1.0, 0, dimensions=20)
    unbiased = [fresh_loop_error(40, size, 1.0, 0, dimensions=20) / alone for size in sizes]
    biased = [fresh_loop_error(40, size, 0.7, 0, dimensions=20) / alone for size in sizes]
    assert unbiased == sorted(unbiased, reverse=True)
    assert unbiased[-1] < 0.7
    assert biased[-1] > 1
    assert admissible_synthetic(40, 1.0, 0, dimensions=20, most=800) == 800
    assert 0 < admissible_synthetic(40, 0.7, 0, dimensions=20, most=800) < 800


def test_narrow_sampling_compounds() -> None:
    assert compounded_temperature(0.7, 5) == pytest.approx(0.168, abs=0.001)
    assert nucleus_mass(0.95, 20) == pytest.approx(0.358, abs=0.001)
    logits = np.log(np.array([0.5, 0.3, 0.2]))
    shares = np.exp(logits)
    for _ in range(3):
        shares = shares ** (1 / 0.8)
        shares /= shares.sum()
    once = np.exp(logits / compounded_temperature(0.8, 3))
    assert shares == pytest.approx(once / once.sum())


def test_the_error_of_a_truncated_tail_falls_with_its_rank() -> None:
    ranks = np.arange(1, 2_000_000)
    mass = ranks**-2.0
    assert mass[1000:].sum() == pytest.approx(truncated_tail_error(1000, 2.0), rel=0.01)
