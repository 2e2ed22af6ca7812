"""Measure the coverage of human n-grams: tail coverage falls early in a collapse.

All counts are of samples of equal size. A sample covers only part of a vocabulary, so a coverage should be compared
with that of generation 0, not with 1. Strata are by human count: once (hapax), 2 to 10 times (rare), more often
(common).
"""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from scipy.spatial.distance import jensenshannon

from curation.metrics.bootstrap import Interval, bootstrap
from curation.metrics.ngram_counts import Counts
from curation.text import words

Stratum: TypeAlias = tuple[int, int | None]
"""Smallest and largest human count; None: no largest."""
STRATA: dict[str, Stratum] = {"hapax": (1, 1), "rare": (2, 10), "common": (11, None)}
ALL: Stratum = (1, None)
"""Every n-gram of the human text."""
_MIN_MULTINOMIAL = 100
"""Smaller samples use the general bootstrap."""
_RESAMPLES = 4000


def ngram_coverage(human: Counts, synthetic: Counts, stratum: Stratum = ALL) -> float:
    """Return the share of the n-grams of a stratum that are in synthetic text; 0 for none."""
    in_stratum = _is_in(stratum, human)
    return float((synthetic[in_stratum] > 0).mean()) if in_stratum.any() else 0.0


def coverage_change(
    human: Counts, baseline: Counts, current: Counts, seed: int, stratum: Stratum = ALL
) -> tuple[float, Interval]:
    """Return the difference of two coverages, `current` - `baseline`, and its 99 % interval.

    Paired bootstrap over n-grams: both coverages are of the same ones. All counts have shape (n-grams,).
    """
    in_stratum = _is_in(stratum, human)
    if not in_stratum.any():
        return 0.0, (None, None)
    differences = (current[in_stratum] > 0).astype(float) - (baseline[in_stratum] > 0)
    return float(differences.mean()), _difference_interval(differences, seed)


def vocabulary_retained(human: Iterable[str], corpus: Iterable[str]) -> tuple[float, int]:
    """Return the share of the distinct human words that a corpus contains, and the number of human words; 0 for none.

    A model cannot learn a word that its corpus lacks, so this is the support that a finite sample loses for good.
    Unlike the other vocabulary metrics it is computed on all texts instead of on samples of equal size.
    """
    vocabulary = {word for text in human for word in words(text)}
    missing = set(vocabulary)
    for text in corpus:
        if not missing:
            break
        missing.difference_update(words(text))
    return (len(vocabulary) - len(missing)) / max(1, len(vocabulary)), len(vocabulary)


def hapax_share(counts: Counts) -> float:
    """Return the share of the distinct types that occur once; 0 for no types."""
    return float((counts == 1).sum() / max(1, (counts > 0).sum()))


def missing_mass(counts: Counts) -> float:
    """Return the Good-Turing estimate N1 / N of the probability that the next token is of a new type; 0 for no tokens.

    Good 1953, "The population frequencies of species and the estimation of population parameters".
    """
    return float((counts == 1).sum() / max(1, counts.sum()))


def js_divergence(human: Counts, synthetic: Counts) -> float:
    """Return the Jensen-Shannon divergence in bits: 0 for equal shares, 1 for disjoint types or if one side is empty.

    H((P + Q) / 2) - (H(P) + H(Q)) / 2 with entropies to base 2. Lin 1991, "Divergence measures based on the Shannon
    entropy".
    """
    if not human.sum() or not synthetic.sum():
        return float(human.sum() != synthetic.sum())
    return float(jensenshannon(human, synthetic, base=2) ** 2)


def _is_in(stratum: Stratum, human: Counts) -> np.ndarray:
    least, most = stratum
    return (human >= least) & (human <= (most or np.inf))


def _difference_interval(differences: np.ndarray, seed: int) -> Interval:
    # Differences are -1, 0 or 1, so a resample is determined by the number of times that each of them is drawn.
    size, rng = len(differences), np.random.default_rng(seed)
    if size < _MIN_MULTINOMIAL:
        return bootstrap(differences, seed, 0.99)
    shares = [(differences == value).mean() for value in (-1, 0, 1)]
    draws = rng.multinomial(size, shares, _RESAMPLES)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / size, (0.005, 0.995))
    return float(low), float(high)
