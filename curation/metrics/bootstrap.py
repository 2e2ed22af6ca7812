"""Estimate confidence intervals over texts, the units that a run samples.

Means over texts use the percentile bootstrap. Numbers of distinct words use a delete-a-group jackknife (Shao & Tu 1995,
"The Jackknife and Bootstrap", chapter 2), since a resample with repeats always has fewer distinct words.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Interval = tuple[float | None, float | None]

GROUPS = 10
"""Number of groups; text `i` is in group `i % GROUPS`."""
_RESAMPLES = 1000


def jackknife(value: float, without: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return a delete-a-group jackknife interval around `value`; (None, None) with fewer than two groups.

    The variance is (g - 1) / g times the sum of squared deviations of the g values from their mean; the interval uses
    the t distribution with g - 1 degrees of freedom.

    Args:
        value: the estimate from all texts.
        without: the estimates without each of the groups.
        confidence: coverage of the interval.
    """
    from scipy.special import stdtrit  # slow to import, and reading a recipe imports this module

    groups = len(without)
    if groups < 2:
        return None, None
    standard_error = np.sqrt((groups - 1) / groups * np.square(np.array(without) - np.mean(without)).sum())
    half_width = float(stdtrit(groups - 1, (1 + confidence) / 2) * standard_error)
    return value - half_width, value + half_width


def bootstrap(
    rows: Numbers, seed: int, confidence: float = 0.95, statistic: Callable[[Numbers], Numbers] | None = None
) -> Interval:
    """Return a percentile bootstrap interval over rows; (None, None) with fewer than two rows.

    Args:
        rows: shape (texts,) for the mean, or (texts, columns) for a statistic of the column means.
        seed: of the resamples.
        confidence: coverage of the interval.
        statistic: maps the column means of all resamples, shape (resamples, columns), to one value each; default: the
            first column.
    """
    if len(rows) < 2:
        return None, None
    means = _resamples(len(rows), seed) @ rows.reshape(len(rows), -1)
    values = statistic(means) if statistic else means[:, 0]
    low, high = np.quantile(values, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


@lru_cache(maxsize=4)
def _resamples(texts: int, seed: int) -> Numbers:
    """Return the weight of each text in each resample, shape (resamples, texts).

    Cached, since drawing costs more than using them and one sample has many metrics.
    """
    weights = np.random.default_rng(seed).multinomial(texts, np.full(texts, 1 / texts), _RESAMPLES) / texts
    weights.setflags(write=False)
    return weights
