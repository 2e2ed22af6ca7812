"""How many of each source: shares of a total as whole numbers that sum to it, and rows drawn to fill them.

Largest remainder (Hamilton's method): each source gets the whole part of its share, and what is left goes to
the largest fractions. Nothing is drawn twice; a source that is too short is refused.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from heirloom.errors import HeirloomError

Shares = dict[str, float] | Literal["as-reserve"] | None
"""Share of each source by name, the shares that the reserve has, or no quota at all."""


def validate_shares(shares: Shares, key: str) -> None:
    """Refuse shares that are no shares.

    Raises:
        HeirloomError: one is negative, or they do not sum to 1.
    """
    if isinstance(shares, dict) and (min(shares.values(), default=0) < 0 or abs(sum(shares.values()) - 1) > 1e-6):
        raise HeirloomError(f"{key} are shares that sum to 1; these sum to {sum(shares.values()):g}")


def largest_remainder(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """`total` cut by the shares, exactly; of equal remainders the one named first is served first."""
    # As written: 0.46 and 0.16 leave the same remainder in decimals, and not in binary.
    written = {source: Fraction(str(share)) for source, share in shares.items()}
    exact = {source: total * share / sum(written.values()) for source, share in written.items()}
    counts = {source: math.floor(share) for source, share in exact.items()}
    by_remainder = sorted(exact, key=lambda source: counts[source] - exact[source])
    for source in by_remainder[: total - sum(counts.values())]:
        counts[source] += 1
    return counts


def quotas_by_source(total: int, shares: Shares, sources: Sequence[str]) -> dict[str, int]:
    """How many of each source, by name in order, where `sources` names the source of each reserve record."""
    asked = Counter(sources) if shares == "as-reserve" else dict(shares or {})
    return largest_remainder(total, dict(sorted(asked.items())))


def require_enough(requester: str, requested: int, available: int, what: str, remedy: str) -> None:
    """Refuse what cannot be had without repeating.

    Raises:
        HeirloomError: more is asked for than there is.
    """
    if requested > available:
        raise HeirloomError(f"{requester} asks for {requested} {what}, and there are {available}; {remedy}")


def rows_where(source: str, sources: Sequence[str]) -> NDArray[np.int64]:
    """Places at which `sources` names this one, in order."""
    return np.flatnonzero(np.array(sources, dtype=object) == source)
