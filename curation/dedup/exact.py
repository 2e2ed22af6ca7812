"""Exact duplicates: the same text once normalised."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.decisions import Duplicates
from curation.text import normalise


def find_exact_duplicates(texts: Sequence[str], reference: Sequence[str] = ()) -> Duplicates:
    """For each text, the earliest text of `reference` or of `texts` that says exactly the same."""
    first: dict[str, int] = {}
    for row, text in enumerate(reference):
        first.setdefault(normalise(text), row)
    answer = Duplicates.none(len(texts))
    for row, text in enumerate(texts):
        keeper = first.setdefault(normalise(text), len(reference) + row)
        if keeper != len(reference) + row:
            answer.keeper[row] = keeper
            answer.similarity[row] = 1.0
    return answer


def exact_key(normalised: str) -> bytes:
    """Sixteen bytes that stand for a normalised text, where there are too many texts to hold."""
    return hashlib.sha256(normalised.encode("utf-8", "surrogatepass")).digest()[:16]


def exact_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Key of each text in two halves, shape (texts, 2)."""
    keys = b"".join(exact_key(normalise(text)) for text in texts)
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
