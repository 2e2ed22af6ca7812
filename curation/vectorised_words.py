"""Bytes to words to shingle hashes by numpy alone, with the values of `compiled_words.py`."""

import numpy as np
from numpy.typing import NDArray

from curation.text import APOSTROPHE, LETTER, MARK, UNSPACED_MARK, character_classes, words_of_folded

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_U64 = np.uint64
_ALL = (1 << 64) - 1
_BASE, _BASIS = 0x9E3779B97F4A7C15, 0xCBF29CE484222325
_MIX, _MIX_2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
_LOW = np.array(
    [ord(chr(i).lower()) if i >= 128 or chr(i).isalnum() or chr(i) in "_'" else 0 for i in range(128)]
    + [*range(128, 256)],
    np.uint8,
)
_WIDTH = np.array([1] * 0xC0 + [2] * 0x20 + [3] * 0x10 + [4] * 0x10, np.int64)
_SPACE = 32
_STEPS = 8
"""Blocks of eight bytes that are hashed for all words at once; the rest of longer words is hashed one by one."""


def shingle_hashes(content: Bytes, begins: Places, ends: Places, by_word: bool, length: int) -> tuple[Hashes, Places]:
    """Hashes of the shingles of the texts that begin and end there, one after the other, and where each one's begin."""
    low, edges = _words_of(content, begins, ends)
    inside = low != 0
    firsts = np.flatnonzero(inside & ~np.concatenate(([False], inside[:-1])))
    owner = np.searchsorted(edges, firsts, side="right") - 1
    if by_word:
        widths = np.flatnonzero(inside & ~np.concatenate((inside[1:], [False]))) + 1 - firsts
        hashes = _word_hashes(low, firsts, widths)
    else:
        later = firsts[1:][owner[1:] == owner[:-1]]
        low[later - 1] = _SPACE
        firsts = np.flatnonzero((low != 0) & ((low & 0xC0) != 0x80))
        owner = np.searchsorted(edges, firsts, side="right") - 1
        hashes = _mix64(_blocks_at(low, firsts, _WIDTH[low[firsts]]))
    return _rolled(hashes, np.bincount(owner, minlength=len(edges)), length)


def _words_of(content: Bytes, begins: Places, ends: Places) -> tuple[Bytes, Places]:
    """Words between zeros, and where each text begins; eight zeros at the end."""
    pieces = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        piece = content[begin:end].tobytes()
        if not piece.isascii():
            piece = _wide_words(piece.decode("utf-8", "surrogatepass"))
        pieces.append(piece)
    edges = np.cumsum([1, *(len(piece) + 1 for piece in pieces)])
    low = _LOW[np.frombuffer(b"\0" + b"\0".join(pieces) + bytes(9), np.uint8)]
    places = np.flatnonzero(low == ord("'"))
    around = np.stack([low[places - 1], low[places + 1]])
    low[places[((around == 0) | (around == ord("'"))).any(0)]] = 0
    return low, edges[:-1]


def _wide_words(text: str) -> bytes:
    """Words of a folded text between zeros."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    kinds = character_classes()[points]
    if ((kinds >= MARK) & (kinds <= UNSPACED_MARK)).any():
        return "\0".join(words_of_folded(text)).encode()
    # What is left is so plain that it needs no search word by word.
    letters = np.concatenate(([False], kinds == LETTER, [False]))
    inside = letters[1:-1] | ((kinds == APOSTROPHE) & letters[:-2] & letters[2:])
    return np.where(inside, points, 0).astype("<u4").tobytes().decode("utf-32-le").encode()


def _blocks_at(low: Bytes, places: Places, widths: Places) -> Hashes:
    """Up to eight bytes from each place on, little-endian; a width of 8 or more takes all eight."""
    every = np.ndarray(len(low) - 7, "<u8", low, strides=(1,))
    found = every[places].astype(_U64, copy=False)
    bits = 8 * np.minimum(widths, 7).astype(_U64)
    return np.where(widths >= 8, found, found & ((_U64(1) << bits) - _U64(1)))


def _word_hashes(low: Bytes, begins: Places, widths: Places) -> Hashes:
    values = np.full(len(begins), _BASIS, _U64)
    for step in range(_STEPS):
        going = np.flatnonzero(widths >= 8 * step)
        block = _blocks_at(low, begins[going] + 8 * step, widths[going] - 8 * step)
        found = (values[going] ^ block) * _U64(_MIX)
        values[going] = found ^ (found >> _U64(32))
    for word in np.flatnonzero(widths >= 8 * _STEPS).tolist():
        rest = low[begins[word] + 8 * _STEPS : begins[word] + widths[word]].tobytes()
        values[word] = _continued(int(values[word]), rest)
    values *= _U64(_MIX_2)
    return values ^ (values >> _U64(29))


def _continued(value: int, rest: bytes) -> int:
    for i in range(0, len(rest) + 1, 8):
        value = ((value ^ int.from_bytes(rest[i : i + 8], "little")) * _MIX) & _ALL
        value ^= value >> 32
    return value


def _rolled(hashes: Hashes, units: Places, length: int) -> tuple[Hashes, Places]:
    """Shingle hashes from unit hashes; `units` is how many each text has."""
    counts = np.maximum(units - length + 1, np.minimum(units, 1))
    starts = np.concatenate(([0], np.cumsum(counts)))
    ends = np.cumsum(units)
    first = np.arange(starts[-1]) + np.repeat(ends - units - starts[:-1], counts)
    last = np.repeat(ends, counts)
    total = np.zeros(len(first), _U64)
    for place in range(length):
        there = first + place
        fits = there < last
        if fits.all():
            total = total * _U64(_BASE) + hashes[there]
        else:
            total[fits] = total[fits] * _U64(_BASE) + hashes[there[fits]]
    return (total ^ (total >> _U64(33))) * _U64(_MIX), starts


def _mix64(value: Hashes) -> Hashes:
    value = (value ^ (value >> _U64(33))) * _U64(_MIX)
    value = (value ^ (value >> _U64(33))) * _U64(_MIX_2)
    return value ^ (value >> _U64(33))
