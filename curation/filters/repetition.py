"""How much of a text repeats itself: n-grams that occur more than once in a text, counted over many texts at once.

A repeated n-gram begins with a repeated shorter one, so each length only examines the positions at which the length
before it had repetitions; most texts are finished after lengths of three or four.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_FIRST = 2
_FACTOR = np.uint64(0x9E37_79B9_7F4A_7C15)


class NgramRepetition:
    """N-grams in a block of texts, computed once for each length, shorter ones first."""

    def __init__(
        self, codes: NDArray[np.int64], text: NDArray[np.int64], lengths: NDArray[np.float64], texts: int
    ) -> None:
        """Index the words: code, row of the text and number of characters of each, shape (words,), of `texts` texts."""
        self._text, self._texts, self._lengths = text, texts, lengths
        self._codes = (codes.astype(np.uint64) + np.uint64(1)) * _FACTOR
        self._ends = np.concatenate([[0.0], np.cumsum(lengths)])
        self._whole = np.bincount(text, weights=lengths, minlength=texts)
        self._length = _FIRST - 1
        self._places = np.arange(len(codes))
        self._hashes = _mixed(self._codes ^ (text.astype(np.uint64) * np.uint64(0xD6E8_FEB8_6659_FD93)))
        self._computed: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def top_fraction(self, length: int) -> NDArray[np.float64]:
        """Fraction of characters in the repeated n-gram of `length` words that covers most of a text."""
        return self._fractions(length)[0]

    def repeated_fraction(self, length: int) -> NDArray[np.float64]:
        """Fraction of characters in n-grams of `length` words that occurred before; no character counts twice."""
        return self._fractions(length)[1]

    def _fractions(self, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        while self._length < length:
            self._lengthen()
        return self._computed[length]

    def _lengthen(self) -> None:
        self._length += 1
        last = self._places + self._length - 1
        inside = last < len(self._text)
        inside[inside] = self._text[self._places[inside]] == self._text[last[inside]]
        places, last = self._places[inside], last[inside]
        hashes = _mixed(self._hashes[inside] + self._codes[last])
        order = pa.array(hashes).dictionary_encode().indices.to_numpy().astype(np.int64)
        counts = np.bincount(order)[order] if len(order) else order
        occurred_before = (
            order <= np.concatenate([[-1], np.maximum.accumulate(order)[:-1]]) if len(order) else order > 0
        )
        self._computed[self._length] = self._top(places, counts), self._repeated(places[occurred_before])
        self._places, self._hashes = places[counts > 1], hashes[counts > 1]

    def _top(self, places: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
        heaviest = np.zeros(self._texts)
        repeated = counts > 1
        characters = self._ends[places[repeated] + self._length] - self._ends[places[repeated]]
        np.maximum.at(heaviest, self._text[places[repeated]], characters * counts[repeated])
        # N-grams that overlap themselves, as in "ha ha ha", would add up to more than the text.
        return np.minimum(self._shares(heaviest), 1)

    def _repeated(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        if not len(places):
            return self._shares(np.zeros(self._texts))
        edges = np.zeros(len(self._text) + 1, np.int64)
        np.add.at(edges, places, 1)
        np.add.at(edges, places + self._length, -1)
        covered = np.cumsum(edges[:-1]) > 0
        characters = np.where(covered, self._lengths, 0)
        return self._shares(np.bincount(self._text, characters, self._texts).astype(np.float64))

    def _shares(self, characters: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(characters, self._whole, out=np.full(self._texts, np.nan), where=self._whole > 0)


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits, so that the hash of an n-gram depends on the order of its words."""
    mixed = hashes ^ (hashes >> np.uint64(31))
    mixed = mixed * np.uint64(0xBF58_476D_1CE4_E5B9)
    return mixed ^ (mixed >> np.uint64(29))
