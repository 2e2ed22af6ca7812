import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.metrics.settings import METRICS
from curation.metrics.suite import COVERAGE_CHANGE_METRICS, TEXT_METRICS, coverage_changes, text_metrics


def test_every_sign_is_published_under_its_name() -> None:
    found = [one.metric for one in text_metrics([["a", "b", "c", "d"]], [["a"]])]
    assert tuple(found) == TEXT_METRICS
    assert set(TEXT_METRICS) | set(COVERAGE_CHANGE_METRICS) <= set(METRICS)


def test_signs_by_hand() -> None:
    # Occurs once: once. Two to ten times: bee, cat, dog, ten. Eleven times: the.
    human = [["the"] * 11, ["once"], ["bee"] * 2 + ["cat"] * 2, ["dog"] * 3, ["ten"] * 10]
    synthetic = [["the", "bee", "the", "ten", "the", "bee", "the", "ten", "new"]]
    found = {one.metric: one.value for one in text_metrics(human, synthetic)}
    assert found["hapax_word_coverage"] == 0
    assert found["rare_word_coverage"] == 2 / 4
    assert found["common_word_coverage"] == 1
    assert found["type_coverage"] == 3 / 6
    assert found["vocabulary_size"] == 4
    assert found["type_token"] == 4 / 9
    assert found["hapax_share"] == 1 / 4
    assert found["missing_mass"] == 1 / 9
    # Runs of four: six, of which the fifth repeats the first.
    assert found["repetition"] == pytest.approx(1 / 6)
    assert found["distinct_2"] == 5 / 8


def test_generating_the_human_text_itself_has_full_coverage_and_no_divergence() -> None:
    human = [[f"word{number}" for number in range(50)]] * 2
    found = {one.metric: one.value for one in text_metrics(human, human)}
    assert found["rare_word_coverage"] == found["type_coverage"] == found["rare_trigram_coverage"] == 1
    assert found["unigram_js_divergence"] == pytest.approx(0)


def test_an_interval_is_of_whole_texts() -> None:
    human = [[f"w{number % 37}", f"w{number % 11}"] for number in range(60)]
    found = {one.metric: one for one in text_metrics(human, human[:30])}
    types = found["vocabulary_size"]
    assert types.low is not None and types.high is not None and types.low <= types.value <= types.high
    alone = {one.metric: one for one in text_metrics(human, human[:1])}
    assert (alone["vocabulary_size"].low, alone["vocabulary_size"].high) == (None, None)


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), max_size=4),
    st.lists(st.lists(st.sampled_from("abcxyz"), max_size=6), max_size=4),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_metric_is_finite_however_short_the_texts_are(human: list[list[str]], synthetic: list[list[str]]) -> None:
    for one in [*text_metrics(human, synthetic), *coverage_changes(human, synthetic, synthetic, 0)]:
        assert math.isfinite(one.value)
        assert one.sample_size == sum(map(len, synthetic))
        assert not one.metric.endswith("coverage") or 0 <= one.value <= 1


def test_a_coverage_change_is_relative_to_the_previous_texts() -> None:
    human = [["a", "b", "c", "d", "a", "b"]]
    found = {one.metric: one.value for one in coverage_changes(human, [["a", "b", "c"]], [["a"]], 0)}
    assert found == {"type_coverage_change": -2 / 4, "rare_word_coverage_change": -1 / 2}
