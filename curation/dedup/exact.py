"""Find exact duplicates: texts that are equal once normalized (`curation.text.normalize`)."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.decisions import DuplicateMatches
from curation.text import normalize


def find_exact_duplicates(texts: Sequence[str], reference: Sequence[str] = ()) -> DuplicateMatches:
    """Find for each text the earliest equal text, in `reference` or earlier in `texts`."""
    first_row: dict[str, int] = {}
    for row, text in enumerate(reference):
        first_row.setdefault(normalize(text), row)
    duplicate_of = np.full(len(texts), -1, np.int64)
    for position, text in enumerate(texts):
        row = len(reference) + position
        earliest = first_row.setdefault(normalize(text), row)
        if earliest != row:
            duplicate_of[position] = earliest
    return DuplicateMatches(
        duplicate_of=duplicate_of,
        similarity=np.where(duplicate_of >= 0, 1.0, np.nan),
        estimated=np.full(len(texts), np.nan),
    )


def exact_key(normalized: str) -> bytes:
    """Return the first 16 bytes of a normalized text's SHA-256 digest, to compare more texts than fit in memory."""
    return hashlib.sha256(normalized.encode("utf-8", "surrogatepass")).digest()[:16]


def exact_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Return the key of each text as two 64-bit halves, shape (texts, 2)."""
    keys = b"".join(exact_key(normalize(text)) for text in texts)
    return np.frombuffer(keys, "<u8").reshape(-1, 2)


def find_repeated_keys(
    high: NDArray[np.uint64], low: NDArray[np.uint64], order: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows whose key occurs in a row that is earlier in `order`.

    Args:
        high: upper half of each key, shape (rows,).
        low: lower half of each key, shape (rows,).
        order: rank of each row, shape (rows,).

    Returns:
        The repeated rows, and for each the earliest row with its key.
    """
    rows = np.lexsort((order, low, high))
    repeats = np.zeros(len(rows), bool)
    repeats[1:] = (high[rows[1:]] == high[rows[:-1]]) & (low[rows[1:]] == low[rows[:-1]])
    firsts = rows[~repeats]
    return rows[repeats], firsts[np.cumsum(~repeats)[repeats] - 1]
