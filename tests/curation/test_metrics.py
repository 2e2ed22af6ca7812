import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.metrics import TEMPERATURES, Measured, MeasureSettings, first_words, perplexities, vocabulary


def _by_name(found: list[Measured]) -> dict[str, Measured]:
    return {one.metric: one for one in found}


def _flat(nats_a_token: dict[float, float], tokens: list[int]) -> np.ndarray:
    """Losses that are the same for every token: at these temperatures as said, at all others 9 nats."""
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
    dice = np.random.default_rng(0)
    tokens = dice.integers(5, 40, 60)
    each = dice.uniform(1, 4, 60)
    nats = np.repeat((each * tokens)[:, None], len(TEMPERATURES), axis=1)
    found = _by_name(perplexities(nats, tokens, 1000, seed=1))["perplexity"]
    assert found.low is not None and found.high is not None
    assert math.exp(each.min()) < found.low < found.value < found.high < math.exp(each.max())
    # Standard error of the mean loss, within a factor of two of the bootstrap's.
    error = float(np.std(each) / math.sqrt(60))
    assert 2 * error < math.log(found.high / found.low) < 8 * error


def test_texts_of_one_loss_have_no_interval_to_speak_of() -> None:
    tokens = [2, 5, 9]
    found = _by_name(perplexities(_flat({1.0: math.log(4)}, tokens), np.array(tokens), 100, seed=0))["perplexity"]
    assert (found.value, found.low, found.high) == pytest.approx((4, 4, 4))


def test_recalibration_takes_the_one_best_temperature() -> None:
    tokens = [4, 6]
    nats = _flat({1.0: math.log(16), 0.7: math.log(20), 1.75: math.log(8), 4.0: math.log(9)}, tokens)
    found = _by_name(perplexities(nats, np.array(tokens), 100, seed=0))
    assert found["perplexity"].value == pytest.approx(16)
    assert found["recalibrated_perplexity"].value == pytest.approx(8)
    assert found["recalibrated_perplexity"].low == pytest.approx(8)
    assert found["best_temperature"].value == 1.75


def test_a_model_that_is_best_as_it_is_needs_no_recalibration() -> None:
    tokens = [4, 6]
    found = _by_name(perplexities(_flat({1.0: 1.0, 1.2: 1.0}, tokens), np.array(tokens), 100, seed=0))
    assert found["best_temperature"].value == 1.0
    assert found["recalibrated_perplexity"].value == found["perplexity"].value


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.01, 8)), min_size=1, max_size=12), st.integers(0, 5))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_recalibration_never_makes_a_model_worse(texts: list[tuple[int, float]], seed: int) -> None:
    tokens = np.array([count for count, _ in texts])
    factors = np.random.default_rng(seed).uniform(0.5, 1.5, (len(texts), len(TEMPERATURES)))
    nats = (tokens * np.array([loss for _, loss in texts]))[:, None] * factors
    found = perplexities(nats, tokens, int(tokens.sum()) * 3, seed)
    values = _by_name(found)
    assert 1 <= values["recalibrated_perplexity"].value <= values["perplexity"].value
    assert all(math.isfinite(one.value) for one in found)


def test_the_same_seed_gives_the_same_interval() -> None:
    dice = np.random.default_rng(3)
    tokens = dice.integers(1, 9, 30)
    nats = dice.uniform(1, 9, (30, len(TEMPERATURES)))
    assert perplexities(nats, tokens, 99, seed=7) == perplexities(nats, tokens, 99, seed=7)
    assert perplexities(nats, tokens, 99, seed=7) != perplexities(nats, tokens, 99, seed=8)


def test_the_first_temperature_is_the_model_as_it_is() -> None:
    assert TEMPERATURES[0] == 1.0
    assert len(set(TEMPERATURES)) == len(TEMPERATURES)


def test_vocabulary_by_hand() -> None:
    # Said once: once. Two to ten times: bee, cat, dog, ten. Eleven times: the.
    human = ["the"] * 11 + ["once"] + ["bee"] * 2 + ["cat"] * 2 + ["dog"] * 3 + ["ten"] * 10
    said = ["the", "bee", "the", "ten", "the", "bee", "the", "ten", "new"]
    found = {name: one.value for name, one in _by_name(vocabulary(human, said)).items()}
    # Runs of four: six, of which the fifth repeats the first.
    assert found == {"rare_word_coverage": 2 / 4, "type_coverage": 3 / 6, "types": 4, "repetition": 1 / 6}


def test_a_model_that_repeats_one_word_has_lost_nearly_everything() -> None:
    human = [f"word{number}" for number in range(50)] * 2
    found = {name: one.value for name, one in _by_name(vocabulary(human, ["word1"] * 100)).items()}
    assert found == {"rare_word_coverage": 1 / 50, "type_coverage": 1 / 50, "types": 1, "repetition": 96 / 97}


def test_a_model_that_says_the_human_text_has_kept_all_of_it() -> None:
    human = [f"word{number}" for number in range(50)] * 2
    found = _by_name(vocabulary(human, human))
    assert found["rare_word_coverage"].value == found["type_coverage"].value == 1
    assert found["types"].value == 50


@given(st.lists(st.sampled_from("abcdef"), max_size=15), st.lists(st.sampled_from("abcxyz"), max_size=15))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_shares_lie_between_0_and_1_however_short_the_text(human: list[str], said: list[str]) -> None:
    for one in vocabulary(human, said):
        assert math.isfinite(one.value)
        assert one.sample_size == len(said)
        assert one.metric == "types" or 0 <= one.value <= 1


def test_nothing_said_scores_nothing() -> None:
    assert [one.value for one in vocabulary([], [])] == [0, 0, 0, 0]
    assert [one.value for one in vocabulary(["a", "a"], [])] == [0, 0, 0, 0]


def test_first_words_run_on_over_the_texts_and_stop_in_time() -> None:
    texts = ["The old river.", "", "Runs east, slowly!"]
    assert first_words(texts, 4) == ["the", "old", "river", "runs"]
    assert first_words(texts, 100) == ["the", "old", "river", "runs", "east", "slowly"]
    assert first_words([], 5) == []


def test_texts_behind_the_last_word_are_not_read() -> None:
    texts = iter(["one two", "three four", "five six"])
    assert first_words(texts, 3) == ["one", "two", "three"]
    assert list(texts) == ["five six"]


@pytest.mark.parametrize("wrong", [{"voice_records": 9}, {"sample_words": 99}, {"words": 500}])
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        MeasureSettings.model_validate(wrong)
