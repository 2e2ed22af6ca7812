"""How much of the human language is still said: the early signs of collapse, from counts of one size.

A sample can say only so much, so that a share is to be held against generation 0's and never against 1. Strata follow how often
people say a thing: once, 2 to 10 times (rare), more often (common).
"""

from collections.abc import Iterable

import numpy as np
from scipy.spatial.distance import jensenshannon

from curation.metrics.bootstrap import Interval, bootstrap
from curation.metrics.ngram_counts import Counts
from curation.text import words

STRATA = {"hapax": (1, 1), "rare": (2, 10), "common": (11, None)}
"""Least and most times that people say what belongs to a stratum."""


def ngram_coverage(human: Counts, synthetic: Counts, least: int = 1, most: int | None = None) -> float:
    """Share of what people say `least` to `most` times that is said at all; 0 where there is nothing of the kind."""
    known = _stratum(human, least, most)
    return float((synthetic[known] > 0).mean()) if known.any() else 0.0


def coverage_change(
    human: Counts, baseline: Counts, current: Counts, seed: int, least: int = 1, most: int | None = None
) -> tuple[float, Interval]:
    """Coverage now less coverage before, and its 99 % interval, by a bootstrap over what people say, paired.

    Shapes as `human`. Paired, for the same words are asked for both times.
    """
    known = _stratum(human, least, most)
    if not known.any():
        return 0.0, (None, None)
    differences = (current[known] > 0).astype(float) - (baseline[known] > 0)
    return float(differences.mean()), _drawn(differences, seed)


def vocabulary_retained(human: Iterable[str], corpus: Iterable[str]) -> tuple[float, int]:
    """Share of the words of all human texts that a corpus holds at all, and how many words these are; 0 for none.

    What is not in a corpus cannot be learned from it: this is the support that a finite sample loses for good. The one number
    about words that is not of one size: all is looked at, so that what was kept is never missed.
    """
    wanted = {word for text in human for word in words(text)}
    missing = set(wanted)
    for text in corpus:
        if not missing:
            break
        missing.difference_update(words(text))
    return (len(wanted) - len(missing)) / max(1, len(wanted)), len(wanted)


def hapax_share(counts: Counts) -> float:
    """Share of the distinct things said that are said once; 0 for nothing said."""
    return float((counts == 1).sum() / max(1, (counts > 0).sum()))


def missing_mass(counts: Counts) -> float:
    """Chance that the next thing said is new: share of all that is said which is said once (Good 1953); 0 for nothing said."""
    return float((counts == 1).sum() / max(1, counts.sum()))


def js_divergence(human: Counts, synthetic: Counts) -> float:
    """Jensen-Shannon divergence in bits, from 0 for the same shares to 1 for nothing in common, or nothing said."""
    if not human.sum() or not synthetic.sum():
        return float(human.sum() != synthetic.sum())
    return float(jensenshannon(human, synthetic, base=2) ** 2)


def _stratum(human: Counts, least: int, most: int | None) -> np.ndarray:
    return (human >= least) & (human <= (most or np.inf))


def _drawn(differences: np.ndarray, seed: int) -> Interval:
    # Of three values only: how often each is drawn is all that a resample can differ in.
    size, rng = len(differences), np.random.default_rng(seed)
    if size < 100:
        return bootstrap(differences, seed, 0.99)
    shares = [(differences == value).mean() for value in (-1, 0, 1)]
    draws = rng.multinomial(size, shares, 4000)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / size, (0.005, 0.995))
    return float(low), float(high)
