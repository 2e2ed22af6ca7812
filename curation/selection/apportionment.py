"""Divide a total among sources or strata by their shares, in whole numbers that sum to the total.

Largest remainder (Hamilton's method): each source gets the whole part of its share, and the units that are left go to
the largest fractions. No record is taken twice; a source with too few records is refused.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from heirloom.errors import HeirloomError

Shares = dict[str, float] | Literal["proportional"] | None
"""Share of each source by name, the shares of the human training pool, or no quotas."""


def validate_shares(shares: Shares, key: str) -> None:
    """Check that shares sum to 1.

    Raises:
        HeirloomError: a share is negative, or they do not sum to 1.
    """
    if isinstance(shares, dict) and (min(shares.values(), default=0) < 0 or abs(sum(shares.values()) - 1) > 1e-6):
        raise HeirloomError(
            f"`{key}` must be shares of 0 or more that sum to 1; these sum to {sum(shares.values()):g}."
        )


def largest_remainder(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Divide `total` by the shares; of equal remainders the one named first is rounded up first."""
    # Fractions of the written decimals: 0.46 and 0.16 leave the same remainder in decimals, but not in binary.
    exact_shares = {source: Fraction(str(share)) for source, share in shares.items()}
    exact_counts = {source: total * share / sum(exact_shares.values()) for source, share in exact_shares.items()}
    counts = {source: math.floor(count) for source, count in exact_counts.items()}
    by_remainder = sorted(exact_counts, key=lambda source: counts[source] - exact_counts[source])
    for source in by_remainder[: total - sum(counts.values())]:
        counts[source] += 1
    return counts


def quotas_by_source(total: int, shares: Shares, sources: Sequence[str]) -> dict[str, int]:
    """Return the number of records of each source, sorted by name.

    Args:
        total: sum of the numbers.
        shares: share of each source.
        sources: source of each human record, which `proportional` shares follow.
    """
    weights = Counter(sources) if shares == "proportional" else dict(shares or {})
    return largest_remainder(total, dict(sorted(weights.items())))


def require_enough(setting: str, required: int, available: int, unit: str, remedy: str) -> None:
    """Check that a request can be met without repeating records.

    Raises:
        HeirloomError: more is required than available.
    """
    if required > available:
        raise HeirloomError(f"{setting} requires {required} {unit}, but only {available} are available. {remedy}")


def rows_where(source: str, sources: Sequence[str]) -> NDArray[np.int64]:
    """Return the rows with this source, in order."""
    return np.flatnonzero(np.array(sources, dtype=object) == source)
