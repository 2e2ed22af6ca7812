"""How sure a number is: intervals over whole texts, which are what a run could have drawn differently.

Means over texts are bootstrapped. Counts of distinct words are not: a resample with repeats has fewer of them whatever the
truth. Those have a delete-a-group jackknife (Shao & Tu 1995, "The Jackknife and Bootstrap", chapter 2).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

Numbers = NDArray[np.float64]
Interval = tuple[float | None, float | None]

GROUPS = 10
"""Texts are dealt to so many groups in turn."""
_DRAWS = 1000


def jackknife(value: float, without: Sequence[float], confidence: float = 0.95) -> Interval:
    """Bounds of a number from what it is without each of the groups; none where there are fewer than two."""
    groups = len(without)
    if groups < 2:
        return None, None
    spread = np.sqrt((groups - 1) / groups * np.square(np.array(without) - np.mean(without)).sum())
    reach = float(t.ppf((1 + confidence) / 2, groups - 1) * spread)
    return value - reach, value + reach


def bootstrap(
    rows: Numbers, seed: int, confidence: float = 0.95, of: Callable[[Numbers], Numbers] | None = None
) -> Interval:
    """Bounds of the mean of `rows`, shape (texts,), or of what `of` makes of the column means of (texts, columns).

    None where there are fewer than two rows.
    """
    if len(rows) < 2:
        return None, None
    means = _resamples(len(rows), seed) @ rows.reshape(len(rows), -1)
    found = of(means) if of else means[:, 0]
    low, high = np.quantile(found, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


@lru_cache(maxsize=4)
def _resamples(texts: int, seed: int) -> Numbers:
    """The weight of each text in each resample, shape (draws, texts): to draw costs more than to use, and one sample has many numbers."""
    weights = np.random.default_rng(seed).multinomial(texts, np.full(texts, 1 / texts), _DRAWS) / texts
    weights.setflags(write=False)
    return weights
