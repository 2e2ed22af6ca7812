"""Compute all vocabulary metrics of a text sample, compared with a human sample of the same size.

docs/metrics.md describes each metric.
"""

from collections.abc import Callable
from typing import TypeAlias

from curation.metrics.bootstrap import GROUPS, jackknife
from curation.metrics.coverage import (
    ALL,
    STRATA,
    Stratum,
    coverage_change,
    hapax_share,
    js_divergence,
    missing_mass,
    ngram_coverage,
)
from curation.metrics.lexical_diversity import compression_ratio, distinct_n, entropy, zipf_exponent
from curation.metrics.ngram_counts import Counts, NgramCounts, TokenizedTexts, count_ngrams, count_words, word_counts
from curation.metrics.settings import Measured

_Metric: TypeAlias = Callable[[Counts, Counts], float]
"""Function of the human and the synthetic counts of the same n-grams."""


def _of_synthetic(statistic: Callable[[Counts], float]) -> _Metric:
    def metric(_human: Counts, synthetic: Counts) -> float:
        return statistic(synthetic)

    return metric


def _coverage_of(stratum: Stratum) -> _Metric:
    def metric(human: Counts, synthetic: Counts) -> float:
        return ngram_coverage(human, synthetic, stratum)

    return metric


def _num_types(counts: Counts) -> float:
    return float((counts > 0).sum())


def _repetition(counts: Counts) -> float:
    return 1 - distinct_n(counts) if counts.sum() else 0.0


def _coverage_by_stratum(unit: str) -> dict[str, _Metric]:
    return {f"{name}_{unit}_coverage": _coverage_of(stratum) for name, stratum in STRATA.items()}


_METRICS_BY_LENGTH: dict[int, dict[str, _Metric]] = {
    1: {
        **_coverage_by_stratum("word"),
        "type_coverage": ngram_coverage,
        "hapax_share": _of_synthetic(hapax_share),
        "missing_mass": _of_synthetic(missing_mass),
        "vocabulary_size": _of_synthetic(_num_types),
        "type_token": _of_synthetic(distinct_n),
        "entropy": _of_synthetic(entropy),
        "zipf_exponent": _of_synthetic(zipf_exponent),
        "unigram_js_divergence": js_divergence,
    },
    2: {
        **_coverage_by_stratum("bigram"),
        "distinct_2": _of_synthetic(distinct_n),
        "bigram_js_divergence": js_divergence,
    },
    3: {**_coverage_by_stratum("trigram"), "distinct_3": _of_synthetic(distinct_n)},
    4: {"repetition": _of_synthetic(_repetition)},
}
"""Metrics by n-gram length and name."""
TEXT_METRICS = (*(name for metrics in _METRICS_BY_LENGTH.values() for name in metrics), "compression_ratio")
"""Names in the order of `text_metrics`."""
COVERAGE_CHANGE_METRICS = ("type_coverage_change", "rare_word_coverage_change")


def text_metrics(human: TokenizedTexts, synthetic: TokenizedTexts) -> list[Measured]:
    """Return every vocabulary metric with its 95 % jackknife interval; `sample_size` counts synthetic words."""
    num_words = count_words(synthetic)
    measured = []
    for length, metrics in _METRICS_BY_LENGTH.items():
        counts = count_ngrams(human, synthetic, length)
        measured += [_measure(name, metric, counts, num_words) for name, metric in metrics.items()]
    ratio = compression_ratio(synthetic)
    without_group = [
        compression_ratio([text for row, text in enumerate(synthetic) if row % GROUPS != group])
        for group in range(min(GROUPS, len(synthetic)))
    ]
    low, high = jackknife(ratio, without_group)
    return [*measured, Measured("compression_ratio", ratio, low, high, num_words)]


def coverage_changes(
    human: TokenizedTexts, baseline: TokenizedTexts, current: TokenizedTexts, seed: int
) -> list[Measured]:
    """Return the differences to the coverages of generation 0 with paired 99 % intervals.

    Args:
        human: human sample.
        baseline: sample of the generation-0 model.
        current: sample of this model.
        seed: of the bootstrap.
    """
    human_counts, baseline_counts, current_counts = word_counts(human, baseline, current)
    num_words = count_words(current)
    measured = []
    for name, stratum in zip(COVERAGE_CHANGE_METRICS, (ALL, STRATA["rare"]), strict=True):
        value, (low, high) = coverage_change(human_counts, baseline_counts, current_counts, seed, stratum)
        measured.append(Measured(name, value, low, high, num_words))
    return measured


def _measure(name: str, metric: _Metric, counts: NgramCounts, num_words: int) -> Measured:
    value = metric(counts.human, counts.total)
    low, high = jackknife(value, [metric(counts.human, rest) for rest in counts.leave_one_out()])
    # The metrics are never negative, but a symmetric interval can be.
    return Measured(name, value, None if low is None else max(0.0, low), high, num_words)
