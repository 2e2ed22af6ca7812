"""Whether a sieve drops more of a source than it usually does: beyond chance, and by more than a little.

A source is held against itself in earlier generations, or, where it has none, against the other sources together. Beyond chance is
Fisher's exact test ("Statistical Methods for Research Workers", 1934, section 21.02), one-sided, at 99 % over all comparisons of a
generation together (Bonferroni). More than a little is Cohen's h of 0.2 or more ("Statistical Power Analysis for the Behavioral
Sciences", 1988, chapter 6), which is from 1 % to 4 %, from 10 % to 17 %, or from 50 % to 60 %. Fewer than 20 records are not judged.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

_CHANCE = 0.01
_EFFECT = 0.2
_FEWEST = 20


@dataclass(frozen=True)
class FilterRate:
    """How many records a sieve looked at, and how many of them it dropped."""

    dropped: int
    num_seen: int

    @property
    def share(self) -> float:
        """Dropped of those that were looked at; 0 of none."""
        return self.dropped / max(1, self.num_seen)

    def __add__(self, other: "FilterRate") -> "FilterRate":
        return FilterRate(self.dropped + other.dropped, self.num_seen + other.num_seen)

    def __sub__(self, other: "FilterRate") -> "FilterRate":
        return FilterRate(self.dropped - other.dropped, self.num_seen - other.num_seen)


FilterRates: TypeAlias = Mapping[tuple[str, str], FilterRate]
"""By source and sieve."""


@dataclass(frozen=True)
class FilterRateAlert:
    """A sieve that drops more of a source than usual, and what to do about it."""

    source: str
    filter: str
    dropped: int
    num_seen: int
    baseline_rate: float
    """The share that was to be expected."""
    reason: str


def find_filter_rate_alerts(current: FilterRates, baseline: FilterRates) -> list[FilterRateAlert]:
    """What is beyond the usual in `now`; `before` are earlier generations together, empty where there are none."""
    judged = list(_judged(current, baseline))
    chance = _CHANCE / max(1, len(judged))
    return [
        FilterRateAlert(
            source, stage, toll.dropped, toll.num_seen, usual.share, _reason(source, stage, toll, usual, where)
        )
        for source, stage, toll, usual, where in judged
        if _effect(toll, usual) >= _EFFECT and _probability(toll, usual) < chance
    ]


def _judged(now: FilterRates, before: FilterRates) -> Iterator[tuple[str, str, FilterRate, FilterRate, str]]:
    whole: dict[str, FilterRate] = defaultdict(lambda: FilterRate(0, 0))
    for (_, stage), toll in now.items():
        whole[stage] += toll
    for (source, stage), toll in now.items():
        usual, where = before.get((source, stage), FilterRate(0, 0)), "earlier generations"
        if usual.num_seen < _FEWEST:
            usual, where = whole[stage] - toll, "the other sources"
        if min(toll.num_seen, usual.num_seen) >= _FEWEST:
            yield source, stage, toll, usual, where


def _effect(toll: FilterRate, usual: FilterRate) -> float:
    """Cohen's h, -pi to pi: above 0 where more is dropped than usual."""
    return 2 * (math.asin(math.sqrt(toll.share)) - math.asin(math.sqrt(usual.share)))


def _probability(toll: FilterRate, usual: FilterRate) -> float:
    """That at least so many of what is dropped in both together fall to this one, were there no difference."""
    # Half a second that most corpora never need.
    from scipy.stats import hypergeom

    both = toll + usual
    return float(hypergeom.sf(toll.dropped - 1, both.num_seen, both.dropped, toll.num_seen))


def _reason(source: str, stage: str, toll: FilterRate, usual: FilterRate, where: str) -> str:
    advice = "look at what it dropped, and at what that source is prompted with"
    if stage in ("minhash", "human_overlap"):
        advice = "if what they share is the prompt's words, change its template, or mask them by minhash.max_shingle_document_frequency"
    return (
        f"{stage} dropped {toll.share:.1%} of {source or 'no source'} ({toll.dropped:,} of {toll.num_seen:,}); "
        f"usual is {usual.share:.1%}, by {where}: {advice}"
    )
