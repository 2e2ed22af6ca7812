"""Find filters that drop significantly more of a source than usual.

The baseline of a source is its own drop rate in earlier generations or, with fewer than 20 earlier records, the rate of
the other sources together. An alert needs both:

- significance: Fisher's exact test ("Statistical Methods for Research Workers", 1934, section 21.02), one-sided, at 99
  % over all comparisons of a generation (Bonferroni);
- effect size: Cohen's h of at least 0.2 ("Statistical Power Analysis for the Behavioral Sciences", 1988, chapter 6),
  for example from 1 % to 4 %, from 10 % to 17 %, or from 50 % to 60 %.

Sources with fewer than 20 records are not tested.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

_SIGNIFICANCE = 0.01
_MIN_EFFECT = 0.2
_MIN_RECORDS = 20


@dataclass(frozen=True)
class FilterRate:
    """Numbers of records that a filter has seen and dropped."""

    dropped: int
    num_seen: int

    @property
    def share(self) -> float:
        """Share of the seen records that were dropped; 0 without any."""
        return self.dropped / max(1, self.num_seen)

    def __add__(self, other: "FilterRate") -> "FilterRate":
        return FilterRate(self.dropped + other.dropped, self.num_seen + other.num_seen)

    def __sub__(self, other: "FilterRate") -> "FilterRate":
        return FilterRate(self.dropped - other.dropped, self.num_seen - other.num_seen)


FilterRates: TypeAlias = Mapping[tuple[str, str], FilterRate]
"""Filter rates by (source, filter)."""


@dataclass(frozen=True)
class FilterRateAlert:
    """A filter that drops more of a source than usual, with advice."""

    source: str
    filter: str
    dropped: int
    num_seen: int
    baseline_rate: float
    """Drop rate of the baseline."""
    reason: str


def find_filter_rate_alerts(current: FilterRates, baseline: FilterRates) -> list[FilterRateAlert]:
    """Return an alert for each filter and source with an unusual drop rate.

    Args:
        current: rates of the newest generation.
        baseline: rates of all earlier generations together; empty without any.
    """
    comparisons = list(_comparisons(current, baseline))
    significance = _SIGNIFICANCE / max(1, len(comparisons))
    return [
        FilterRateAlert(
            source=comparison.source,
            filter=comparison.filter,
            dropped=comparison.current.dropped,
            num_seen=comparison.current.num_seen,
            baseline_rate=comparison.baseline.share,
            reason=_reason(comparison),
        )
        for comparison in comparisons
        if _cohens_h(comparison.current, comparison.baseline) >= _MIN_EFFECT
        and _p_value(comparison.current, comparison.baseline) < significance
    ]


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    source: str
    filter: str
    current: FilterRate
    baseline: FilterRate
    baseline_name: str


def _comparisons(current: FilterRates, earlier: FilterRates) -> Iterator[_Comparison]:
    filter_totals: dict[str, FilterRate] = defaultdict(lambda: FilterRate(0, 0))
    for (_, filter_name), rate in current.items():
        filter_totals[filter_name] += rate
    for (source, filter_name), rate in current.items():
        baseline, baseline_name = earlier.get((source, filter_name), FilterRate(0, 0)), "earlier generations"
        if baseline.num_seen < _MIN_RECORDS:
            baseline, baseline_name = filter_totals[filter_name] - rate, "the other sources"
        if min(rate.num_seen, baseline.num_seen) >= _MIN_RECORDS:
            yield _Comparison(
                source=source, filter=filter_name, current=rate, baseline=baseline, baseline_name=baseline_name
            )


def _cohens_h(current: FilterRate, baseline: FilterRate) -> float:
    """Return Cohen's h, 2 arcsin sqrt(p1) - 2 arcsin sqrt(p2); positive if more is dropped than usual."""
    return 2 * (math.asin(math.sqrt(current.share)) - math.asin(math.sqrt(baseline.share)))


def _p_value(current: FilterRate, baseline: FilterRate) -> float:
    """Return the one-sided p-value of Fisher's exact test: the hypergeometric probability of at least as many drops."""
    # Imported here since it takes half a second, and most generations never need it.
    from scipy.stats import hypergeom

    both = current + baseline
    return float(hypergeom.sf(current.dropped - 1, both.num_seen, both.dropped, current.num_seen))


def _reason(comparison: _Comparison) -> str:
    advice = "Read the dropped records, and the prompts of this source."
    if comparison.filter in ("minhash", "human_overlap"):
        advice = (
            "If they share words of the prompt, change its template, or ignore such words by "
            "`curate.minhash.max_shingle_document_frequency`."
        )
    rate = comparison.current
    return (
        f"{comparison.filter} dropped {rate.share:.1%} of {comparison.source or 'no source'} "
        f"({rate.dropped:,} of {rate.num_seen:,}); usual is {comparison.baseline.share:.1%}, by "
        f"{comparison.baseline_name}. {advice}"
    )
