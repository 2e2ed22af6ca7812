"""Text metrics: counts of words and n-grams, coverage, lexical diversity, and their settings."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.gates import GateSettings, Limit, evaluate_gate, most_severe
from curation.metrics.coverage import (
    STRATA,
    coverage_change,
    hapax_share,
    js_divergence,
    missing_mass,
    ngram_coverage,
    vocabulary_retained,
)
from curation.metrics.lexical_diversity import compression_ratio, distinct_n, entropy, zipf_exponent
from curation.metrics.ngram_counts import count_ngrams, count_words, take_words, word_counts
from curation.metrics.settings import METRICS, TEMPERATURES, EvalSettings
from curation.metrics.suite import COVERAGE_CHANGE_METRICS, TEXT_METRICS, coverage_changes, text_metrics
from curation.metrics.types import Value
from tests.support.paths import ROOT


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


def test_coverage_by_hand() -> None:
    human, synthetic = np.array([1, 1, 2, 10, 11, 0]), np.array([0, 3, 1, 0, 9, 4])
    assert [ngram_coverage(human, synthetic, stratum) for stratum in STRATA.values()] == [0.5, 0.5, 1.0]
    assert ngram_coverage(human, synthetic) == 3 / 5
    assert ngram_coverage(np.zeros(3, int), synthetic[:3]) == 0


def test_hapax_share_and_missing_mass_match_hand_counts() -> None:
    assert hapax_share(np.array([1, 1, 2, 0])) == 2 / 3
    assert missing_mass(np.array([1, 1, 2, 0])) == 2 / 4
    assert hapax_share(np.zeros(3, int)) == missing_mass(np.zeros(3, int)) == 0


def test_divergence_runs_from_nothing_to_everything() -> None:
    assert js_divergence(np.array([2, 4]), np.array([1, 2])) == pytest.approx(0)
    assert js_divergence(np.array([2, 0]), np.array([0, 5])) == pytest.approx(1)
    assert js_divergence(np.array([2, 1]), np.zeros(2, int)) == 1
    assert js_divergence(np.zeros(2, int), np.zeros(2, int)) == 0


def test_a_coverage_change_is_paired_by_human_word() -> None:
    human = np.full(1000, 2)
    before, now = np.ones(1000, int), np.array([0] * 100 + [1] * 900)
    value, (low, high) = coverage_change(human, before, now, 0)
    assert value == pytest.approx(-0.1)
    assert low is not None and high is not None and -0.13 < low < -0.1 < high < -0.07
    assert coverage_change(human, before, before, 0) == (0, (0, 0))
    assert coverage_change(np.zeros(5, int), before[:5], now[:5], 0) == (0, (None, None))


def _loop(policy: str, rounds: int, seed: int) -> list[np.ndarray]:
    """Counts of the words of each round of a loop over 20,000 words, 50,000 at a time; round 0 is human."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, 20_001)
    corpus = rng.multinomial(50_000, shares / shares.sum())
    counts = [corpus]
    for _ in range(rounds):
        synthetic = rng.multinomial(50_000, corpus / corpus.sum())
        corpus = synthetic if policy == "replace" else corpus + synthetic
        counts.append(synthetic)
    return counts


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_types_alarm_at_once_entropy_late_and_tail_mass_never(seed: int) -> None:
    counts = _loop("replace", 20, seed)
    human = counts[0]
    kept = [ngram_coverage(human, synthetic) for synthetic in counts]
    entropies = [entropy(synthetic) for synthetic in counts]
    tail = [synthetic[100:].sum() / synthetic.sum() for synthetic in counts]
    assert kept[1] < 0.9 * kept[0]
    value, (_, high) = coverage_change(human, human, counts[1], seed)
    assert value < 0 and high is not None and high < 0
    assert min(np.flatnonzero(np.array(entropies) < 0.9 * entropies[0]), default=99) >= 10
    assert all(abs(one / tail[0] - 1) < 0.1 for one in tail)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_nothing_alarms_where_human_and_synthetic_words_accumulate(seed: int) -> None:
    counts = _loop("accumulate", 10, seed)
    gate = GateSettings(
        limits=(
            Limit(metric="type_coverage", at_least=0.9),
            Limit(metric="rare_word_coverage", at_least=0.9),
            Limit(metric="entropy", at_least=0.9),
        )
    )

    def measured(synthetic: np.ndarray) -> dict[tuple[str, str], Value]:
        values = {
            "type_coverage": ngram_coverage(counts[0], synthetic),
            "rare_word_coverage": ngram_coverage(counts[0], synthetic, STRATA["rare"]),
            "entropy": entropy(synthetic),
        }
        return {("model", name): Value(value) for name, value in values.items()}

    # A model of the human corpus is generation 0: what its samples, not its corpus, are the baseline of later ones.
    metrics = [measured(synthetic) for synthetic in counts[1:]]
    assert [most_severe(evaluate_gate(gate, metrics[: place + 1])) for place in range(len(metrics))] == ["go"] * len(
        metrics
    )
    replaced = [measured(synthetic) for synthetic in _loop("replace", 2, seed)[1:]]
    assert most_severe(evaluate_gate(gate, replaced)) == "warn"


def test_words_kept_looks_at_all_of_a_corpus() -> None:
    human = ["The old river", "the new bridge"]
    assert vocabulary_retained(human, ["River, OLD river", "a bridge"]) == (3 / 5, 5)
    assert vocabulary_retained(human, iter([*human, *["noise"] * 100])) == (1.0, 5)
    assert vocabulary_retained(["..."], ["the"]) == (0.0, 0)
    assert vocabulary_retained(human, []) == (0.0, 5)


def test_first_words_run_on_over_the_texts_and_stop_in_time() -> None:
    texts = ["The old river.", "", "Runs east, slowly!"]
    assert take_words(texts, 4) == [["the", "old", "river"], ["runs"]]
    assert count_words(take_words(texts, 100)) == 6
    assert take_words([], 5) == []
    assert take_words(["!!", "--"], 5) == []


def test_texts_behind_the_last_word_are_not_read() -> None:
    texts = iter(["one two", "three four", "five six"])
    assert count_words(take_words(texts, 3)) == 3
    assert list(texts) == ["five six"]


def test_runs_are_counted_within_texts_and_by_groups() -> None:
    found = count_ngrams([["a", "b", "a", "b"], ["c"]], [["a", "b"], ["b", "c"]], 2)
    # a b and b a by people; a b, and b c which people never say, by the others.
    assert sorted(zip(found.human.tolist(), found.total.tolist(), strict=True)) == [(0, 1), (1, 0), (2, 1)]
    assert [one.sum() for one in found.synthetic] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert [one.sum() for one in found.leave_one_out()] == [1, 1]


def test_texts_shorter_than_the_ngram_have_no_counts() -> None:
    found = count_ngrams([], [["a"]], 3)
    assert found.human.tolist() == found.total.tolist() == []


def test_tallies_are_of_human_words_alone_and_of_one_shape() -> None:
    human, synthetic = word_counts([["a", "b"], ["a"]], [["b", "x"], ["b"]])
    assert (human.tolist(), synthetic.tolist()) == ([2, 1], [0, 2])


def test_entropy_of_equal_shares_is_the_log_of_their_number() -> None:
    assert entropy(np.array([3, 3, 3, 3, 0])) == pytest.approx(math.log(4))
    assert entropy(np.array([9])) == 0
    assert entropy(np.zeros(4, int)) == 0


def test_distinct_by_hand() -> None:
    assert distinct_n(np.array([1, 3, 0])) == 2 / 4
    assert distinct_n(np.zeros(2, int)) == 0


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.4])
def test_the_exponent_of_a_zipf_law_is_found_again(exponent: float) -> None:
    counts = np.round(1e6 / np.arange(1, 3001) ** exponent).astype(np.int64)
    assert zipf_exponent(counts) == pytest.approx(exponent, abs=0.02)


def test_too_few_words_have_no_slope() -> None:
    assert zipf_exponent(np.array([5])) == zipf_exponent(np.zeros(0, int)) == 0


def test_what_repeats_itself_compresses_better() -> None:
    plain = [[f"w{place}" for place in range(200)]]
    assert compression_ratio([["say", "it", "again"]] * 70) > 3 * compression_ratio(plain) > 1
    assert compression_ratio([]) == 0


def test_the_first_temperature_is_the_model_as_it_is() -> None:
    assert TEMPERATURES[0] == 1.0
    assert len(set(TEMPERATURES)) == len(TEMPERATURES)


def test_every_metric_has_a_name_of_its_own() -> None:
    assert len(set(METRICS)) == len(METRICS)


@pytest.mark.parametrize("wrong", [{"num_samples": 9}, {"vocab_sample_words": 99}, {"words": 500}])
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        EvalSettings.model_validate(wrong)


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    assert [name for name in METRICS if f"`{name}`" not in page] == []
