"""How much of a text says again what the same text said: runs of words, counted over many texts at once.

A run that occurs twice begins with a shorter run that does, so each length looks only where the length
before it found something; most texts are through after three or four.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_FIRST = 2
_FACTOR = np.uint64(0x9E37_79B9_7F4A_7C15)


class NgramRepetition:
    """Runs of words in a block of texts, shorter ones worked out before longer ones, each once."""

    def __init__(
        self, codes: NDArray[np.int64], text: NDArray[np.int64], lengths: NDArray[np.float64], texts: int
    ) -> None:
        """`codes` say which word, `text` which text and `lengths` how many characters, each of shape (words,)."""
        self._text, self._texts, self._lengths = text, texts, lengths
        self._codes = (codes.astype(np.uint64) + np.uint64(1)) * _FACTOR
        self._ends = np.concatenate([[0.0], np.cumsum(lengths)])
        self._whole = np.bincount(text, weights=lengths, minlength=texts)
        self._length = _FIRST - 1
        self._places = np.arange(len(codes))
        self._hashes = _mixed(self._codes ^ (text.astype(np.uint64) * np.uint64(0xD6E8_FEB8_6659_FD93)))
        self._found: dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def top_fraction(self, length: int) -> NDArray[np.float64]:
        """Share of each text's characters in its heaviest run of `length` words that occurs twice or more."""
        return self._worked_out(length)[0]

    def repeated_fraction(self, length: int) -> NDArray[np.float64]:
        """Share of each text's characters in runs of `length` words that occurred before; none counts twice."""
        return self._worked_out(length)[1]

    def _worked_out(self, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        while self._length < length:
            self._lengthen()
        return self._found[length]

    def _lengthen(self) -> None:
        self._length += 1
        last = self._places + self._length - 1
        inside = last < len(self._text)
        inside[inside] = self._text[self._places[inside]] == self._text[last[inside]]
        places, last = self._places[inside], last[inside]
        hashes = _mixed(self._hashes[inside] + self._codes[last])
        order = pa.array(hashes).dictionary_encode().indices.to_numpy().astype(np.int64)
        counts = np.bincount(order)[order] if len(order) else order
        said_before = order <= np.concatenate([[-1], np.maximum.accumulate(order)[:-1]]) if len(order) else order > 0
        self._found[self._length] = self._top(places, counts), self._repeated(places[said_before])
        self._places, self._hashes = places[counts > 1], hashes[counts > 1]

    def _top(self, places: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
        heaviest = np.zeros(self._texts)
        often = counts > 1
        characters = self._ends[places[often] + self._length] - self._ends[places[often]]
        np.maximum.at(heaviest, self._text[places[often]], characters * counts[often])
        # Runs that overlap themselves, as in "ha ha ha", would come to more than the text.
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
    """Spread over all bits, so that adding the next word gives another sum than adding it first."""
    mixed = hashes ^ (hashes >> np.uint64(31))
    mixed = mixed * np.uint64(0xBF58_476D_1CE4_E5B9)
    return mixed ^ (mixed >> np.uint64(29))
