"""Divide a total among sources or strata by their shares, in whole numbers that sum to the total.

Largest remainder (Hamilton's method): each source gets the whole part of its share, and the units that are left go to
the largest fractions. No record is taken twice; a source with too few records is refused.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from decimal import Decimal
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
    # Whole numbers in the ratio of the written decimals: 0.46 and 0.16 leave the same remainder in decimals, but not in
    # binary.
    ratios = [Decimal(str(share)).as_integer_ratio() for share in shares.values()]
    scale = math.lcm(*{denominator for _, denominator in ratios})
    weights = [numerator * (scale // denominator) for numerator, denominator in ratios]
    sum_of_weights = sum(weights)
    counts, remainders = [], []
    for weight in weights:
        count, remainder = divmod(total * weight, sum_of_weights)
        counts.append(count)
        remainders.append(remainder)
    by_remainder = sorted(range(len(weights)), key=remainders.__getitem__, reverse=True)
    for position in by_remainder[: total - sum(counts)]:
        counts[position] += 1
    return dict(zip(shares, counts, strict=True))


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


def rows_by_group(groups: Sequence[Hashable]) -> dict[Hashable, NDArray[np.int64]]:
    """Return the rows of each group, in order; `groups` is the group of each row."""
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return {group: np.array(numbers, np.int64) for group, numbers in rows.items()}
