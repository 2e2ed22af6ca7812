"""Bytes to words to shingle hashes by numpy alone, with the values of `compiled_words.py`."""

import numpy as np
from numpy.typing import NDArray

from curation.dedup.kernels.text_buffer import decode_non_ascii
from curation.text import APOSTROPHE, LETTER, MARK, OTHER, UNSPACED_MARK, character_classes, tokenize_normalized

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
_SPACE, _QUOTE = 32, ord("'")
_WIDE_QUOTE = "’".encode()
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
    pieces = [content[begin:end].tobytes() for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    laid, edges = _laid(pieces)
    places, points, widths = decode_non_ascii(laid)
    kinds = character_classes()[points] if len(points) else np.zeros(0, np.uint8)
    special = (kinds >= MARK) & (kinds <= UNSPACED_MARK)
    if special.any():
        for row in np.unique(np.searchsorted(edges, places[special], side="right") - 1).tolist():
            pieces[row] = "\0".join(tokenize_normalized(pieces[row].decode("utf-8", "surrogatepass"))).encode()
        laid, edges = _laid(pieces)
        places, points, widths = decode_non_ascii(laid)
        kinds = character_classes()[points]
        # Those that are still there are of words.
        kinds[(kinds >= MARK) & (kinds <= UNSPACED_MARK)] = LETTER
    low = _LOW[laid]
    _fill(low, places[kinds == OTHER], widths[kinds == OTHER], 0)
    wide = places[kinds == APOSTROPHE]
    quotes = np.concatenate((np.flatnonzero(laid == _QUOTE), wide))
    sizes = np.concatenate((np.ones(len(quotes) - len(wide), np.int64), np.full(len(wide), len(_WIDE_QUOTE))))
    _fill(low, quotes, sizes, _QUOTE)
    around = np.stack([low[quotes - 1], low[quotes + sizes]])
    between = ((around != 0) & (around != _QUOTE)).all(0)
    _fill(low, quotes[~between], sizes[~between], 0)
    for offset, byte in enumerate(_WIDE_QUOTE):
        low[quotes[between & (sizes > 1)] + offset] = byte
    return low, edges


def _laid(pieces: list[bytes]) -> tuple[Bytes, Places]:
    edges = np.cumsum([1, *(len(piece) + 1 for piece in pieces)])[:-1]
    return np.frombuffer(b"\0" + b"\0".join(pieces) + bytes(9), np.uint8), edges


def _fill(low: Bytes, places: Places, widths: Places, byte: int) -> None:
    for offset in range(4):
        low[places[widths > offset] + offset] = byte


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
    firsts = np.cumsum(units) - units
    # Every run of so many units, whosever they are, and of these the ones that lie in a text.
    every = np.zeros(max(0, len(hashes) - length + 1), _U64)
    for place in range(length):
        every *= _U64(_BASE)
        every += hashes[place : place + len(every)]
    total = np.zeros(starts[-1], _U64)
    long = np.repeat(units >= length, counts)
    within = np.arange(starts[-1]) + np.repeat(firsts - starts[:-1], counts)
    total[long] = every[within[long]]
    for place in range(length - 1):
        short = np.flatnonzero((units > place) & (units < length))
        total[starts[short]] = total[starts[short]] * _U64(_BASE) + hashes[firsts[short] + place]
    return (total ^ (total >> _U64(33))) * _U64(_MIX), starts


def _mix64(value: Hashes) -> Hashes:
    value = (value ^ (value >> _U64(33))) * _U64(_MIX)
    value = (value ^ (value >> _U64(33))) * _U64(_MIX_2)
    return value ^ (value >> _U64(33))
