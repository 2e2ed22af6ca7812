"""Bytes to words to shingle hashes, compiled by numba; `vectorised.py` gives the same values without it.

A word is hashed eight bytes at a time, and a shingle by a polynomial over the hashes of its units, rolled along.
numba looks for changes in the file of a cached function alone, so this file calls no kernel of another one.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation import text
from curation.dedup.kernels.numba_compile import jit, load_u64, trailing_zeros

Bytes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]
Place: TypeAlias = int | np.int64

_U8, _U64 = np.uint8, np.uint64
_BASE, _BASIS = _U64(0x9E3779B97F4A7C15), _U64(0xCBF29CE484222325)
_MIX, _MIX_2 = _U64(0xFF51AFD7ED558CCD), _U64(0xC4CEB9FE1A85EC53)
_ONES, _HIGHS = _U64(0x0101010101010101), _U64(0x8080808080808080)
_LETTER, _MARK, _UNSPACED, _UNSPACED_MARK, _APOSTROPHE = (
    text.LETTER,
    text.MARK,
    text.UNSPACED,
    text.UNSPACED_MARK,
    text.APOSTROPHE,
)


@jit
def _mix64(value: np.uint64) -> np.uint64:
    value ^= value >> _U64(33)
    value *= _MIX
    value ^= value >> _U64(33)
    value *= _MIX_2
    return value ^ (value >> _U64(33))


@jit
def _is_letter(byte: np.uint8) -> np.bool_:
    return (_U8(_U8(byte | _U8(32)) - _U8(97)) < _U8(26)) | (_U8(byte - _U8(48)) < _U8(10)) | (byte == _U8(95))


@jit
def _lowered(byte: np.uint8) -> np.uint8:
    return _U8(byte | _U8(32)) if _U8(byte - _U8(65)) < _U8(26) else byte


@jit
def _plain_words(source: Bytes, low: Bytes) -> None:
    """Lowered ASCII letters in `low`, 0 elsewhere."""
    for i in range(len(source)):
        byte = source[i]
        low[i] = _lowered(byte) if _is_letter(byte) else _U8(0)


@jit
def _code_point(content: Bytes, i: Place) -> tuple[Place, int]:
    """Code point at `i` and its bytes in UTF-8 (surrogates included)."""
    first = np.int64(content[i])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | content[i + 1] & 0x3F, 2
    if first < 0xF0:
        return (first & 0x0F) << 12 | (content[i + 1] & 0x3F) << 6 | content[i + 2] & 0x3F, 3
    return (first & 0x07) << 18 | (content[i + 1] & 0x3F) << 12 | (content[i + 2] & 0x3F) << 6 | content[
        i + 3
    ] & 0x3F, 4


@jit
def _is_next(content: Bytes, i: Place, stop: int, classes: Bytes) -> bool:
    """Whether a letter begins at `i`."""
    return bool(i < stop and classes[_code_point(content, i)[0]] == _LETTER)


@jit
def _unicode_words(content: Bytes, i: int, stop: int, classes: Bytes, low: Bytes) -> int:
    """Words in `low`, each followed by a 0; returns how many bytes that makes."""
    size = 0
    inside = False
    while i < stop:
        point, width = _code_point(content, i)
        kind = classes[point]
        unspaced = kind in (_UNSPACED, _UNSPACED_MARK)
        goes_on = kind == _LETTER or (inside and kind in (_MARK, _UNSPACED_MARK))
        if inside and kind == _APOSTROPHE:
            goes_on = _is_next(content, i + width, stop, classes)
        if inside and not goes_on:
            low[size] = 0
            size += 1
        if goes_on or unspaced:
            for j in range(i, i + width):
                low[size] = _lowered(content[j])
                size += 1
        if unspaced and not goes_on:
            low[size] = 0
            size += 1
        inside = goes_on
        i += width
    return size


@jit
def _settle_signs(content: Bytes, start: int, stop: int, classes: Bytes, low: Bytes) -> bool:
    """What is no plain letter, where it belongs to a word; False where a character is a word by itself.

    From left to right: a word goes on until here if the byte before is of one.
    """
    i: Place = start
    while i < stop:
        if i + 8 <= stop:
            block = load_u64(content, i)
            quotes = block ^ (_ONES * _U64(39))
            found = (block | ((quotes - _ONES) & ~quotes)) & _HIGHS
            if found == _U64(0):
                i += 8
                continue
            i += np.int64(trailing_zeros(found) >> _U64(3))
        if content[i] < _U8(128) and content[i] != _U8(39):
            i += 1
            continue
        point, width = _code_point(content, i)
        kind, inside = classes[point], i > start and low[i - start - 1] != _U8(0)
        if kind in (_UNSPACED, _UNSPACED_MARK):
            return False
        joins = kind == _APOSTROPHE and _is_next(content, i + width, stop, classes)
        if kind == _LETTER or (inside and (joins or kind == _MARK)):
            for j in range(i, i + width):
                low[j - start] = content[j]
        i += width
    return True


@jit
def _words_of(content: Bytes, start: int, stop: int, classes: Bytes, low: Bytes) -> int:
    """Fill `low` with lowered words between zeros, 16 zeros behind them; returns its length without those."""
    size = stop - start
    _plain_words(content[start:stop], low)
    if not _settle_signs(content, start, stop, classes, low):
        size = _unicode_words(content, start, stop, classes, low)
    low[size : size + 16] = _U8(0)
    return size


@jit
def _word_hash(low: Bytes, i: Place) -> tuple[np.uint64, Place]:
    """Hash of the word that begins at `i`, eight bytes a step, and where it ends."""
    value = _BASIS
    block = load_u64(low, i)
    zero = (block - _ONES) & ~block & _HIGHS
    while zero == _U64(0):
        value = (value ^ block) * _MIX
        value ^= value >> _U64(32)
        i += 8
        block = load_u64(low, i)
        zero = (block - _ONES) & ~block & _HIGHS
    width = trailing_zeros(zero) >> _U64(3)
    value = (value ^ (block & ((_U64(1) << (width << _U64(3))) - _U64(1)))) * _MIX
    value = (value ^ (value >> _U64(32))) * _MIX_2
    return value ^ (value >> _U64(29)), i + np.int64(width)


@jit
def _rolled(total: np.uint64) -> np.uint64:
    return (total ^ (total >> _U64(33))) * _MIX


@jit
def _word_shingles(low: Bytes, size: int, ring: Hashes, power: np.uint64, out: Hashes) -> int:
    length = len(ring)
    words, slot, total = 0, 0, _U64(0)
    i: Place = 0
    while i < size:
        if low[i] == _U8(0):
            block = load_u64(low, i)
            i += np.int64(trailing_zeros(block) >> _U64(3)) if block != _U64(0) else 8
            continue
        value, i = _word_hash(low, i)
        total = total * _BASE + value
        if words >= length:
            total -= ring[slot] * power
        ring[slot] = value
        slot = slot + 1 if slot + 1 < length else 0
        words += 1
        if words >= length:
            out[words - length] = _rolled(total)
    if 0 < words < length:
        out[0] = _rolled(total)
    return max(words - length + 1, min(words, 1))


@jit
def _character_shingles(low: Bytes, size: int, ring: Hashes, power: np.uint64, out: Hashes) -> int:
    """As `_word_shingles` over characters, a run of zeros being one space; the ends of `low` do not count."""
    length = len(ring)
    found, slot, i, total = 0, 0, 0, _U64(0)
    pending = False
    while i < size:
        if low[i] == _U8(0):
            pending = found > 0
            i += 1
            continue
        if pending:
            value, pending = _mix64(_U64(32)), False
        else:
            width = _code_point(low, i)[1]
            value = _mix64(load_u64(low, i) & ((_U64(1) << _U64(8 * width)) - _U64(1)))
            i += width
        total = total * _BASE + value
        if found >= length:
            total -= ring[slot] * power
        ring[slot] = value
        slot = slot + 1 if slot + 1 < length else 0
        found += 1
        if found >= length:
            out[found - length] = _rolled(total)
    if 0 < found < length:
        out[0] = _rolled(total)
    return max(found - length + 1, min(found, 1))


@jit
def shingle_hashes(
    content: Bytes, begins: Places, ends: Places, by_word: bool, length: int, classes: Bytes
) -> tuple[Hashes, Places]:
    """Hashes of the shingles of the texts that begin and end there, one after the other, and where each one's begin."""
    total, longest = 0, 0
    for i in range(len(begins)):
        size = ends[i] - begins[i]
        total += (size // 2 if by_word else size) + 2
        longest = max(longest, size)
    out, starts = np.empty(total, np.uint64), np.zeros(len(begins) + 1, np.int64)
    # A character that is a word by itself takes three bytes, and a zero behind it.
    low, ring = np.empty(longest + longest // 3 + 32, np.uint8), np.empty(length, np.uint64)
    power = _U64(1)
    for _ in range(length):
        power *= _BASE
    for i in range(len(begins)):
        size = _words_of(content, begins[i], ends[i], classes, low)
        place = out[starts[i] :]
        if by_word:
            starts[i + 1] = starts[i] + _word_shingles(low, size, ring, power, place)
        else:
            starts[i + 1] = starts[i] + _character_shingles(low, size, ring, power, place)
    return out[: starts[-1]], starts
