import importlib.util
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.filters.importance import (
    ImportanceSettings,
    PerplexityFilterSettings,
    human_classifier_scores,
    importance_filter,
    perplexity_filter,
    weighted_sample_without_replacement,
)
from tests.conftest import human_texts


@pytest.fixture
def _require_scikit_learn() -> None:
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed")


def _synthetic(count: int) -> list[str]:
    rng = random.Random(1)
    return [" ".join(rng.choices(["the", "old", "river", "and", "again"], k=20)) for _ in range(count)]


@pytest.mark.slow
@pytest.mark.usefixtures("_require_scikit_learn")
def test_the_detector_scores_unseen_human_texts_above_synthetic_ones() -> None:
    human = human_texts(200)
    mixed = [*human_texts(40, seed=9), *_synthetic(160)]
    scores = human_classifier_scores(mixed, human, 0)
    assert scores[:40].mean() > scores[40:].mean() + 0.3
    assert scores.tolist() == human_classifier_scores(mixed, human, 0).tolist()


@pytest.mark.usefixtures("_require_scikit_learn")
def test_resampling_raises_the_human_share_and_power_0_does_not() -> None:
    human, mixed = human_texts(200), [*human_texts(40, seed=9), *_synthetic(160)]
    share = {
        power: float(
            importance_filter(mixed, human, ImportanceSettings(keep_fraction=0.5, exponent=power)).kept[:40].mean()
        )
        for power in (0, 10)
    }
    assert share[10] > 0.9
    assert 0.2 < share[0] < 0.8


@pytest.mark.usefixtures("_require_scikit_learn")
def test_a_text_that_is_not_drawn_is_dropped_with_its_probability_as_score() -> None:
    result = importance_filter(_synthetic(20), human_texts(20), ImportanceSettings(keep_fraction=0.25))
    assert int(result.kept.sum()) == 5
    assert set(result.reason.to_pylist()) == {"", "was not drawn: looks synthetic"}
    assert all(0 <= score <= 1 for score in result.score.to_pylist())


@pytest.mark.usefixtures("_require_scikit_learn")
def test_too_little_to_learn_from_is_refused_and_nothing_is_nothing() -> None:
    with pytest.raises(ValueError, match="at least 5 human texts and 5 others to train its classifier, found 2 and 9"):
        human_classifier_scores(human_texts(9), human_texts(2), 0)
    assert human_classifier_scores([], [], 0).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 5))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_draw_has_its_size_never_repeats_and_takes_weightless_rows_last(
    weights: list[float], keep: int, seed: int
) -> None:
    drawn = weighted_sample_without_replacement(np.array(weights), keep, seed)
    assert int(drawn.sum()) == min(keep, len(weights))
    weighty = np.array(weights) > 0
    assert not drawn[~weighty].any() or drawn[weighty].all()
    assert drawn.tolist() == weighted_sample_without_replacement(np.array(weights), keep, seed).tolist()


def test_the_first_draw_is_in_proportion_to_the_weights() -> None:
    weights = np.array([1.0, 2.0, 5.0])
    counts = np.sum([weighted_sample_without_replacement(weights, 1, seed) for seed in range(4000)], axis=0)
    expected = 4000 * weights / weights.sum()
    assert (abs(counts - expected) < 4 * np.sqrt(expected)).all()


def test_what_surprises_too_little_or_too_much_goes() -> None:
    result = perplexity_filter(np.array([1.0, 9.0, 3.0, np.nan, 5.0]), PerplexityFilterSettings(quantiles=(0.25, 0.75)))
    assert result.reason.to_pylist() == ["surprises too little", "surprises too much", "", "", ""]


def test_mean_surprise_rises_by_a_low_bound_and_falls_by_a_high_one() -> None:
    nats = np.random.default_rng(0).gamma(2, size=500)
    means = [
        nats[perplexity_filter(nats, PerplexityFilterSettings(quantiles=bounds)).kept].mean()
        for bounds in ((0.0, 0.8), (0.0, 1.0), (0.2, 1.0))
    ]
    assert means[0] < means[1] == nats.mean() < means[2]


def test_surprise_without_a_single_score_is_refused() -> None:
    with pytest.raises(ValueError, match="needs log-probabilities"):
        perplexity_filter(np.array([np.nan]), PerplexityFilterSettings())
    assert perplexity_filter(np.zeros(0), PerplexityFilterSettings()).reason.to_pylist() == []


@pytest.mark.parametrize("quantiles", [(0.5, 0.5), (0.9, 0.1), (-0.1, 1.0)])
def test_quantiles_in_the_wrong_order_are_refused(quantiles: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match="quantiles must be"):
        PerplexityFilterSettings(quantiles=quantiles)
