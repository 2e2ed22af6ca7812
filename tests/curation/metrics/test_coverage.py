"""Coverage by hand, and the order in which signs come in a loop over a Zipf language."""

import numpy as np
import pytest

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
from curation.metrics.lexical_diversity import entropy
from curation.metrics.types import Value


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
    """Counts of the words generated in each round of a loop over 20,000 words, 50,000 at a time, of which round 0 is human."""
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
