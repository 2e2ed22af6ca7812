"""Exact duplicates: the same text once normalized."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.decisions import DuplicateMatches
from curation.text import normalize


def find_exact_duplicates(texts: Sequence[str], reference: Sequence[str] = ()) -> DuplicateMatches:
    """For each text, the earliest text of `reference` or of `texts` that says exactly the same."""
    first: dict[str, int] = {}
    for row, text in enumerate(reference):
        first.setdefault(normalize(text), row)
    answer = DuplicateMatches.all_kept(len(texts))
    for row, text in enumerate(texts):
        keeper = first.setdefault(normalize(text), len(reference) + row)
        if keeper != len(reference) + row:
            answer.duplicate_of[row] = keeper
            answer.similarity[row] = 1.0
    return answer


def exact_key(normalized: str) -> bytes:
    """Sixteen bytes that stand for a normalized text, where there are too many texts to hold."""
    return hashlib.sha256(normalized.encode("utf-8", "surrogatepass")).digest()[:16]


def exact_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Key of each text in two halves, shape (texts, 2)."""
    keys = b"".join(exact_key(normalize(text)) for text in texts)
    return np.frombuffer(keys, "<u8").reshape(-1, 2)


def find_repeated_keys(
    high: NDArray[np.uint64], low: NDArray[np.uint64], order: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows whose key a row earlier in `order` has, and for each the earliest such row; keys in two halves."""
    rows = np.lexsort((order, low, high))
    repeats = np.zeros(len(rows), bool)
    repeats[1:] = (high[rows[1:]] == high[rows[:-1]]) & (low[rows[1:]] == low[rows[:-1]])
    firsts = rows[~repeats]
    return rows[repeats], firsts[np.cumsum(~repeats)[repeats] - 1]
