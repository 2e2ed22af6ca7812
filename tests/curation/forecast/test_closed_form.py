"""Each closed form against a simulation of what it speaks of."""

import numpy as np
import pytest

from curation.forecast.closed_form import (
    admissible_synthetic,
    collision_probability,
    compounded_temperature,
    fresh_loop_error,
    gaussian_variance,
    human_fraction_needed,
    label_shift_error,
    nucleus_mass,
    regression_error,
    truncated_tail_error,
    type_presence_after,
    type_presence_at_equilibrium,
    type_survival,
    verifier_break_even,
)


def _replaced(first: np.ndarray, generations: int, seed: int) -> list[np.ndarray]:
    """Counts of each type in every generation, where each is drawn from the one before."""
    dice, counts, told = np.random.default_rng(seed), first, [first]
    for _ in range(generations):
        counts = dice.multinomial(counts.sum(), counts / counts.sum())
        told.append(counts)
    return told


@pytest.mark.parametrize("count", [1, 10])
def test_types_survive_as_forecast(count: int) -> None:
    first = np.array([count] * 3000 + [9000])
    told = _replaced(first, 20, seed=count)
    for generations in (1, 2, 5, 10, 20):
        survived = (told[generations][:3000] > 0).mean()
        assert survived == pytest.approx(type_survival(np.array([count]), generations)[0], abs=0.03)


def test_the_forecast_of_survival_is_the_published_table_and_above_the_published_bound() -> None:
    ones = [float(type_survival(np.array([1.0]), rounds)[0]) for rounds in (1, 2, 5, 10, 20, 50)]
    assert ones == pytest.approx([0.632, 0.469, 0.268, 0.158, 0.088, 0.038], abs=0.001)
    assert all(
        found > 1 - np.exp(-1 / rounds) - 1e-9 for found, rounds in zip(ones, (1, 2, 5, 10, 20, 50), strict=True)
    )


@pytest.mark.parametrize(
    ("count", "share", "absent"), [(1, 0.1, 0.670), (1, 0.5, 0.419), (5, 0.05, 0.275), (5, 0.25, 0.038)]
)
def test_the_human_share_keeps_types_as_forecast(count: int, share: float, absent: float) -> None:
    assert 1 - type_presence_at_equilibrium(np.array([count]), share)[0] == pytest.approx(absent, abs=0.001)
    types, dice = 2000, np.random.default_rng(count)
    records = types * count
    human = np.full(types, 1 / types)
    counts, missing = dice.multinomial(records, human), []
    for turn in range(80):
        own = dice.multinomial(records - round(share * records), counts / counts.sum())
        counts = own + dice.multinomial(round(share * records), human)
        missing += [(counts == 0).mean()] if turn >= 40 else []
    assert np.mean(missing) == pytest.approx(absent, abs=0.02)


def test_the_planner_is_turned_round_within_a_hundredth() -> None:
    for count, presence in ((5, 0.95), (1, 0.5), (20, 0.999)):
        share = human_fraction_needed(count, presence)
        assert type_presence_at_equilibrium(np.array([count]), share)[0] == pytest.approx(presence, abs=1e-6)
        assert type_presence_at_equilibrium(np.array([count]), share - 0.01)[0] < presence
    with pytest.raises(ValueError, match=r"with chance 0\.632 at most; asked for 0\.9"):
        human_fraction_needed(1, 0.9)


def test_purity_rises_as_forecast() -> None:
    human = 1 / np.arange(1, 201)
    human /= human.sum()
    first, runs = float((human**2).sum()), 3000
    for generations in (1, 10, 30):
        found = []
        for seed in range(runs):
            dice, shares = np.random.default_rng(seed), human
            for _ in range(generations):
                shares = dice.multinomial(500, shares) / 500
            found.append((shares**2).sum())
        assert np.mean(found) == pytest.approx(collision_probability(first, 500, generations), rel=0.03)


def test_the_variance_of_a_refitted_gaussian_goes_as_forecast() -> None:
    dice = np.random.default_rng(0)
    unbiased = likeliest = np.ones(4000)
    for _ in range(100):
        scale = dice.chisquare(99, 4000)
        unbiased, likeliest = unbiased * scale / 99, likeliest * scale / 100
    median, mean = gaussian_variance(100, 100)
    assert median == pytest.approx(0.36, abs=0.04)
    assert np.median(unbiased) == pytest.approx(median, abs=0.04)
    assert mean == pytest.approx(0.366, abs=0.001)
    assert likeliest.mean() == pytest.approx(mean, abs=0.02)


def test_regression_forgets_in_proportion_when_replaced_and_hardly_when_accumulated() -> None:
    samples, dimensions, generations = 111, 10, 10
    replace, accumulate = regression_error(samples, dimensions, 1, generations)
    assert (replace, accumulate) == (pytest.approx(1.0), pytest.approx(0.155, abs=0.001))
    dice, runs = np.random.default_rng(1), 120
    found: dict[str, list[float]] = {"replace": [], "accumulate": []}
    for _ in range(runs):
        inputs = dice.standard_normal((samples, dimensions))
        inverse = np.linalg.pinv(inputs)
        single, pooled = np.zeros(dimensions), np.zeros(dimensions)
        for turn in range(generations):
            single = inverse @ (inputs @ single + dice.standard_normal(samples))
            # The mean of all fits on the same inputs is the fit of all labels together.
            pooled += (inverse @ (inputs @ pooled + dice.standard_normal(samples)) - pooled) / (turn + 1)
        found["replace"].append(single @ single)
        found["accumulate"].append(pooled @ pooled)
    assert np.mean(found["replace"]) == pytest.approx(replace, rel=0.1)
    assert np.mean(found["accumulate"]) == pytest.approx(accumulate, rel=0.1)


def test_label_shift_leaves_a_floor_that_more_data_does_not_lift() -> None:
    dice, samples, dimensions = np.random.default_rng(2), 20_000, 20
    for shifted in (0.1, 0.5):
        inputs = dice.standard_normal((samples, dimensions))
        shift = np.eye(dimensions)[0]
        wrong = np.arange(samples) < shifted * samples
        labels = inputs @ shift * wrong + dice.standard_normal(samples)
        fit = np.linalg.lstsq(inputs, labels, rcond=None)[0]
        assert fit @ fit == pytest.approx(label_shift_error(samples, dimensions, 1, shifted, 1), rel=0.15)


@pytest.mark.parametrize(("right", "wrong"), [(1.0, 1.0), (0.9, 0.3), (0.7, 0.05)])
def test_a_verifier_helps_up_to_its_break_even_and_not_beyond(right: float, wrong: float) -> None:
    edge = verifier_break_even(right, wrong)
    for share, better in ((edge - 0.02, True), (edge + 0.02, False)):
        kept_right, kept_wrong = (1 - share) * right, share * wrong
        assert (kept_right > kept_wrong) == better


def test_a_fresh_loop_gains_from_its_own_words_as_long_as_they_are_said_without_bias() -> None:
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


def test_the_floor_of_a_cut_tail_falls_with_its_rank() -> None:
    ranks = np.arange(1, 2_000_000)
    mass = ranks**-2.0
    assert mass[1000:].sum() == pytest.approx(truncated_tail_error(1000, 2.0), rel=0.01)


@pytest.mark.parametrize(("count", "share"), [(5, 0.1), (2, 0.3)])
def test_for_a_number_of_generations_less_human_text_does(count: int, share: float) -> None:
    dice, types = np.random.default_rng(0), 4000
    records = types * count
    human = np.full(types, 1 / types)
    counts = dice.poisson(count, types)
    for turn in range(1, 11):
        own = dice.multinomial(records - round(share * records), counts / counts.sum())
        counts = own + dice.multinomial(round(share * records), human)
        if turn in (1, 10):
            kept = type_presence_after(np.array([count]), share, turn)[0]
            assert (counts > 0).mean() == pytest.approx(kept, abs=0.02)
    assert human_fraction_needed(5, 0.95, 10) < human_fraction_needed(5, 0.95)
    assert type_presence_after(np.array([5]), 0.2, 2000)[0] == pytest.approx(
        type_presence_at_equilibrium(np.array([5]), 0.2)[0], abs=1e-3
    )
