import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.metrics.perplexity import paired_loss_difference, perplexities, perplexity_quantiles
from curation.metrics.settings import TEMPERATURES, Measured


def _by_name(found: list[Measured]) -> dict[str, Measured]:
    return {one.metric: one for one in found}


def _flat(nats_a_token: dict[float, float], tokens: list[int]) -> np.ndarray:
    """Losses that are the same for every token: at these temperatures as given, at all others 9 nats."""
    return np.array([[nats_a_token.get(one, 9.0) * count for one in TEMPERATURES] for count in tokens])


def test_perplexity_by_hand() -> None:
    # 2 tokens at 1 bit and 3 tokens at 3 bits: 11 bits over 5 tokens.
    nats = np.full((2, len(TEMPERATURES)), 50.0)
    nats[:, 0] = [2 * math.log(2), 3 * math.log(8)]
    found = _by_name(perplexities(nats, np.array([2, 3]), 22, seed=0))
    assert found["perplexity"].value == pytest.approx(2 ** (11 / 5))
    assert found["bits_per_byte"].value == pytest.approx(0.5)
    assert found["perplexity"].sample_size == 2


def test_the_interval_lies_between_the_best_and_the_worst_text() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 40, 60)
    each = rng.uniform(1, 4, 60)
    nats = np.repeat((each * tokens)[:, None], len(TEMPERATURES), axis=1)
    found = _by_name(perplexities(nats, tokens, 1000, seed=1))["perplexity"]
    assert found.low is not None and found.high is not None
    assert math.exp(each.min()) < found.low < found.value < found.high < math.exp(each.max())
    # Standard error of the mean loss, within a factor of two of the bootstrap's.
    error = float(np.std(each) / math.sqrt(60))
    assert 2 * error < math.log(found.high / found.low) < 8 * error


def test_texts_of_equal_loss_have_an_interval_of_width_0() -> None:
    tokens = [2, 5, 9]
    found = _by_name(perplexities(_flat({1.0: math.log(4)}, tokens), np.array(tokens), 100, seed=0))["perplexity"]
    assert (found.value, found.low, found.high) == pytest.approx((4, 4, 4))


def test_recalibration_takes_the_one_best_temperature() -> None:
    tokens = [4, 6]
    nats = _flat({1.0: math.log(16), 0.7: math.log(20), 1.75: math.log(8), 4.0: math.log(9)}, tokens)
    found = _by_name(perplexities(nats, np.array(tokens), 100, seed=0))
    assert found["perplexity"].value == pytest.approx(16)
    assert found["perplexity_at_best_temperature"].value == pytest.approx(8)
    assert found["perplexity_at_best_temperature"].low == pytest.approx(8)
    assert found["best_temperature"].value == 1.75


def test_a_model_that_is_best_as_it_is_needs_no_recalibration() -> None:
    tokens = [4, 6]
    found = _by_name(perplexities(_flat({1.0: 1.0, 1.2: 1.0}, tokens), np.array(tokens), 100, seed=0))
    assert found["best_temperature"].value == 1.0
    assert found["perplexity_at_best_temperature"].value == found["perplexity"].value


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.01, 8)), min_size=1, max_size=12), st.integers(0, 5))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_recalibration_never_makes_a_model_worse(texts: list[tuple[int, float]], seed: int) -> None:
    tokens = np.array([count for count, _ in texts])
    factors = np.random.default_rng(seed).uniform(0.5, 1.5, (len(texts), len(TEMPERATURES)))
    nats = (tokens * np.array([loss for _, loss in texts]))[:, None] * factors
    found = perplexities(nats, tokens, int(tokens.sum()) * 3, seed)
    values = _by_name(found)
    assert 1 <= values["perplexity_at_best_temperature"].value <= values["perplexity"].value
    assert all(math.isfinite(one.value) for one in found)


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 9, 30)
    nats = rng.uniform(1, 9, (30, len(TEMPERATURES)))
    assert perplexities(nats, tokens, 99, seed=7) == perplexities(nats, tokens, 99, seed=7)
    assert perplexities(nats, tokens, 99, seed=7) != perplexities(nats, tokens, 99, seed=8)


def test_the_change_of_loss_is_paired_text_by_text() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 40, 80)
    before = tokens * rng.uniform(1, 9, 80)
    found = paired_loss_difference(before, before + 0.1 * tokens + rng.normal(0, 0.05, 80), tokens, 0)
    assert found.metric == "loss_change"
    assert found.value == pytest.approx(0.1, abs=0.01)
    # The texts differ by nats, the pairs by hundredths.
    assert found.low is not None and found.high is not None and 0.09 < found.low < found.high < 0.11


def test_no_change_is_none_whatever_the_texts() -> None:
    same = paired_loss_difference(np.array([3.0, 9.0]), np.array([3.0, 9.0]), np.array([1, 2]), 0)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_quantiles_of_surprise_are_those_of_the_texts() -> None:
    nats = np.log(np.arange(1, 102.0))
    found = _by_name(perplexity_quantiles(nats, np.ones(101, np.int64), 0))
    assert [round(one.value) for one in found.values()] == [2, 6, 26, 51, 76, 96, 100]
    assert all(one.low is not None and one.high is not None and one.low <= one.high for one in found.values())
    assert perplexity_quantiles(nats[:0], np.zeros(0, np.int64), 0) == []
    assert perplexity_quantiles(nats[:1], np.ones(1, np.int64), 0)[0].low is None
