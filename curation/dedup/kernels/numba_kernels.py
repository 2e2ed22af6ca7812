"""Compute shingle hashes, signatures and similarities, compiled by numba; `numpy_kernels` gives the same values.

A word is hashed eight bytes at a time. A shingle hash is a polynomial over the hashes of its units, updated in a
rolling window. Sets of shingle hashes are concatenated: those of row `i` are `hashes[starts[i] : starts[i + 1]]`, with
repeats.

Functions are compiled without the interpreter lock, so plain threads run them on all cores. numba's own threads are not
used: kernels with `parallel=True` are not cached, and the default thread pool may not be entered from two threads. The
first call on a machine compiles (seconds). The machine code is cached next to the source, in the user's cache folder,
or, where neither is writable, for this process only. numba checks only the file of a cached function for changes, so
all compiled functions that call each other stand in this file.
"""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from curation import text
from curation.dedup.kernels.types import Bytes, Hashes, Indices, Signatures, Similarities

_Function = TypeVar("_Function", bound=Callable[..., object])
_Index: TypeAlias = int | np.int64

_U8, _U32, _U64 = np.uint8, np.uint32, np.uint64
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


def jit(function: _Function) -> _Function:
    """Compile a function at its first call, cached on disk where a cache folder is writable."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no folder that it may write its cache to
        return njit(nogil=True)(function)


@intrinsic  # type: ignore[untyped-decorator]
def load_u64(_context, array, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001
    """Load eight bytes from `index` on, little-endian, aligned or not."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        content = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.bitcast(builder.gep(content.data, [arguments[1]]), ir.IntType(64).as_pointer())
        loaded = builder.load(pointer)
        loaded.align = 1
        return loaded

    return types.uint64(types.Array(types.uint8, 1, "C"), types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(_context, _value):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Count the zero bits below the lowest set bit of a value that is not 0."""

    def generate(_generator, builder, _signature, arguments):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


# Bytes to words


@jit
def _is_letter(byte: np.uint8) -> np.bool_:
    return (_U8(_U8(byte | _U8(32)) - _U8(97)) < _U8(26)) | (_U8(byte - _U8(48)) < _U8(10)) | (byte == _U8(95))


@jit
def _to_lower(byte: np.uint8) -> np.uint8:
    return _U8(byte | _U8(32)) if _U8(byte - _U8(65)) < _U8(26) else byte


@jit
def _copy_ascii_letters(source: Bytes, low: Bytes) -> None:
    """Write lower-case ASCII letters, digits and underscores to `low`, and 0 for every other byte."""
    for i in range(len(source)):
        byte = source[i]
        low[i] = _to_lower(byte) if _is_letter(byte) else _U8(0)


@jit
def _code_point(content: Bytes, i: _Index) -> tuple[_Index, int]:
    """Return the code point at `i` and its length in UTF-8 bytes (surrogates included)."""
    first = np.int64(content[i])
    if first < 0x80:
        return first, 1
    second = content[i + 1] & 0x3F
    if first < 0xE0:
        return (first & 0x1F) << 6 | second, 2
    third = content[i + 2] & 0x3F
    if first < 0xF0:
        return (first & 0x0F) << 12 | second << 6 | third, 3
    return (first & 0x07) << 18 | second << 12 | third << 6 | content[i + 3] & 0x3F, 4


@jit
def _letter_follows(content: Bytes, i: _Index, stop: int, classes: Bytes) -> bool:
    """Return whether a letter begins at `i`."""
    return bool(i < stop and classes[_code_point(content, i)[0]] == _LETTER)


@jit
def _unicode_words(content: Bytes, i: int, stop: int, classes: Bytes, low: Bytes) -> int:
    """Write words to `low`, each followed by a 0; return the number of bytes written."""
    size = 0
    inside = False
    while i < stop:
        point, width = _code_point(content, i)
        kind = classes[point]
        unspaced = kind in (_UNSPACED, _UNSPACED_MARK)
        continues = kind == _LETTER or (inside and kind in (_MARK, _UNSPACED_MARK))
        if inside and kind == _APOSTROPHE:
            continues = _letter_follows(content, i + width, stop, classes)
        if inside and not continues:
            low[size] = 0
            size += 1
        if continues or unspaced:
            for j in range(i, i + width):
                low[size] = _to_lower(content[j])
                size += 1
        if unspaced and not continues:
            low[size] = 0
            size += 1
        inside = continues
        i += width
    return size


@jit
def _add_non_ascii(content: Bytes, start: int, stop: int, classes: Bytes, low: Bytes) -> bool:
    """Copy apostrophes and non-ASCII characters of words; return False at a character that is a word itself.

    Goes from left to right: a word reaches up to `i` if the byte of `low` before `i` is not 0.
    """
    i: _Index = start
    while i < stop:
        if i + 8 <= stop:
            # Skip eight bytes at once if none is an apostrophe (39) or above 127.
            block = load_u64(content, i)
            quotes = block ^ (_ONES * _U64(39))
            special = (block | ((quotes - _ONES) & ~quotes)) & _HIGHS
            if special == _U64(0):
                i += 8
                continue
            i += np.int64(trailing_zeros(special) >> _U64(3))
        if content[i] < _U8(128) and content[i] != _U8(39):
            i += 1
            continue
        point, width = _code_point(content, i)
        kind, inside = classes[point], i > start and low[i - start - 1] != _U8(0)
        if kind in (_UNSPACED, _UNSPACED_MARK):
            return False
        joins = kind == _APOSTROPHE and _letter_follows(content, i + width, stop, classes)
        if kind == _LETTER or (inside and (joins or kind == _MARK)):
            for j in range(i, i + width):
                low[j - start] = content[j]
        i += width
    return True


@jit
def write_words(content: Bytes, start: int, stop: int, classes: Bytes, low: Bytes) -> int:
    """Write the lower-case words of a text to `low`, separated by zeros and followed by 16 zeros.

    Returns:
        The number of bytes written, without the 16 zeros.
    """
    size = stop - start
    _copy_ascii_letters(content[start:stop], low)
    if not _add_non_ascii(content, start, stop, classes, low):
        size = _unicode_words(content, start, stop, classes, low)
    low[size : size + 16] = _U8(0)
    return size


# Words to shingle hashes


@jit
def _mix64(value: np.uint64) -> np.uint64:
    value ^= value >> _U64(33)
    value *= _MIX
    value ^= value >> _U64(33)
    value *= _MIX_2
    return value ^ (value >> _U64(33))


@jit
def _word_hash(low: Bytes, i: _Index) -> tuple[np.uint64, _Index]:
    """Return the hash of the word that begins at `i`, computed eight bytes a step, and the index of its end."""
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
def _finish_shingle(total: np.uint64) -> np.uint64:
    return (total ^ (total >> _U64(33))) * _MIX


@jit
def _word_shingles(low: Bytes, size: int, window: Hashes, power: np.uint64, out: Hashes) -> int:
    """Write the hash of every run of `len(window)` words; return the number of hashes written.

    `window` is scratch space for the hashes of the last words, `power` is _BASE to the power of its length.
    """
    length = len(window)
    words, slot, total = 0, 0, _U64(0)
    i: _Index = 0
    while i < size:
        if low[i] == _U8(0):
            block = load_u64(low, i)
            i += np.int64(trailing_zeros(block) >> _U64(3)) if block != _U64(0) else 8
            continue
        value, i = _word_hash(low, i)
        total = total * _BASE + value
        if words >= length:
            total -= window[slot] * power
        window[slot] = value
        slot = slot + 1 if slot + 1 < length else 0
        words += 1
        if words >= length:
            out[words - length] = _finish_shingle(total)
    if 0 < words < length:
        out[0] = _finish_shingle(total)
    return max(words - length + 1, min(words, 1))


@jit
def _character_shingles(low: Bytes, size: int, window: Hashes, power: np.uint64, out: Hashes) -> int:
    """As `_word_shingles`, over characters: a run of zeros counts as one space, except at both ends of `low`."""
    length = len(window)
    characters, slot, i, total = 0, 0, 0, _U64(0)
    space_pending = False
    while i < size:
        if low[i] == _U8(0):
            space_pending = characters > 0
            i += 1
            continue
        if space_pending:
            value, space_pending = _mix64(_U64(32)), False
        else:
            width = _code_point(low, i)[1]
            value = _mix64(load_u64(low, i) & ((_U64(1) << _U64(8 * width)) - _U64(1)))
            i += width
        total = total * _BASE + value
        if characters >= length:
            total -= window[slot] * power
        window[slot] = value
        slot = slot + 1 if slot + 1 < length else 0
        characters += 1
        if characters >= length:
            out[characters - length] = _finish_shingle(total)
    if 0 < characters < length:
        out[0] = _finish_shingle(total)
    return max(characters - length + 1, min(characters, 1))


@jit
def shingle_hashes(  # noqa: PLR0913, PLR0917  (numba compiles plain arrays only)
    content: Bytes, begins: Indices, ends: Indices, by_word: bool, length: int, classes: Bytes
) -> tuple[Hashes, Indices]:
    """Hash the shingles of the texts `content[begins[i] : ends[i]]`.

    Args:
        content: folded texts as UTF-8, see `text_buffer`.
        begins: offset of each text, shape (texts,).
        ends: end of each text, shape (texts,).
        by_word: whether a shingle is a run of words or of characters.
        length: words or characters in a shingle.
        classes: `curation.text.character_classes()`.

    Returns:
        The hashes of all texts, concatenated, and the offset of each text's hashes with their total, shape (texts +
        1,).
    """
    capacity, longest = 0, 0
    for i in range(len(begins)):
        size = ends[i] - begins[i]
        capacity += (size // 2 if by_word else size) + 2
        longest = max(longest, size)
    out, starts = np.empty(capacity, np.uint64), np.zeros(len(begins) + 1, np.int64)
    # A character that is a word by itself takes three bytes, and a zero follows it.
    low, window = np.empty(longest + longest // 3 + 32, np.uint8), np.empty(length, np.uint64)
    power = _U64(1)
    for _ in range(length):
        power *= _BASE
    for i in range(len(begins)):
        size = write_words(content, begins[i], ends[i], classes, low)
        target = out[starts[i] :]
        if by_word:
            starts[i + 1] = starts[i] + _word_shingles(low, size, window, power, target)
        else:
            starts[i + 1] = starts[i] + _character_shingles(low, size, window, power, target)
    return out[: starts[-1]], starts


# Shingle hashes to signatures and similarities


@jit
def _mix32(value: np.uint32) -> np.uint32:
    # numba types the product of two uint32 as uint64, so it is cut back each time.
    value = _U32(_U32(value ^ (value >> _U32(16))) * _U32(0x85EBCA6B))
    value = _U32(_U32(value ^ (value >> _U32(13))) * _U32(0xC2B2AE35))
    return _U32(value ^ (value >> _U32(16)))


@jit
def _permute(code: np.uint32, multiplier: np.uint32, offset: np.uint32) -> np.uint32:
    return _U32(_U32(multiplier * code) + offset)


@jit
def _write_minima(codes: Signatures, multipliers: Signatures, offsets: Signatures, least: Signatures) -> None:
    """Write the least permuted code of each permutation. Eight codes a pass keep the permutations in registers."""
    least[:] = _U32(0xFFFFFFFF)
    unrolled = len(codes) - len(codes) % 8
    for i in range(0, unrolled, 8):
        c0, c1, c2, c3 = codes[i], codes[i + 1], codes[i + 2], codes[i + 3]
        c4, c5, c6, c7 = codes[i + 4], codes[i + 5], codes[i + 6], codes[i + 7]
        for j in range(len(least)):
            a, b, minimum = multipliers[j], offsets[j], least[j]
            minimum = min(minimum, _permute(c0, a, b))
            minimum = min(minimum, _permute(c1, a, b))
            minimum = min(minimum, _permute(c2, a, b))
            minimum = min(minimum, _permute(c3, a, b))
            minimum = min(minimum, _permute(c4, a, b))
            minimum = min(minimum, _permute(c5, a, b))
            minimum = min(minimum, _permute(c6, a, b))
            least[j] = min(minimum, _permute(c7, a, b))
    for i in range(unrolled, len(codes)):
        for j in range(len(least)):
            least[j] = min(least[j], _permute(codes[i], multipliers[j], offsets[j]))


@jit
def signatures(hashes: Hashes, starts: Indices, multipliers: Signatures, offsets: Signatures, out: Signatures) -> None:
    """Write the MinHash values of each set, shape (sets, permutations); all ones for an empty set."""
    permutations = out.shape[1]
    # Full vectors: sixteen permutations fill a register of 512 bits.
    padded = -(-permutations // 16) * 16
    scales, shifts, least = np.zeros(padded, np.uint32), np.zeros(padded, np.uint32), np.empty(padded, np.uint32)
    scales[:permutations], shifts[:permutations] = multipliers, offsets
    longest = 0
    for row in range(len(starts) - 1):
        longest = max(longest, starts[row + 1] - starts[row])
    codes = np.empty(longest, np.uint32)
    for row in range(len(starts) - 1):
        size = starts[row + 1] - starts[row]
        for i in range(size):
            codes[i] = _mix32(_U32(hashes[starts[row] + i] >> _U64(32)))
        _write_minima(codes[:size], scales, shifts, least)
        out[row] = least[:permutations]


@jit
def band_hashes(signatures: Signatures, rows_per_band: int, out: Hashes) -> None:
    """Write one hash a band of `rows_per_band` values, shape (texts, bands)."""
    for row in range(len(signatures)):
        for band in range(out.shape[1]):
            value = _U64(band + 1) * _BASE
            for i in range(band * rows_per_band, (band + 1) * rows_per_band):
                value = (value ^ _U64(signatures[row, i])) * _MIX
                value ^= value >> _U64(32)
            value ^= value >> _U64(33)
            value *= _MIX
            value ^= value >> _U64(33)
            value *= _MIX_2
            out[row, band] = value ^ (value >> _U64(33))


@jit
def agreement(signatures: Signatures, left: Indices, right: Indices, out: Similarities) -> None:
    """Write the share of values in which two signatures agree: the estimate of their Jaccard similarity."""
    size = signatures.shape[1]
    for pair in range(len(left)):
        first, second = signatures[left[pair]], signatures[right[pair]]
        equal = _U32(0)
        for i in range(size):
            equal += _U32(first[i] == second[i])
        out[pair] = equal / size


@jit
def _find_slot(keys: Hashes, marks: Indices, mark: int, shift: np.uint64, key: np.uint64) -> np.int64:
    """Return the slot of a key in an open-addressing table. Slots whose mark is below `mark` are free."""
    slot = np.int64(key >> shift)
    while marks[slot] >= mark and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@jit
def _similarity(  # noqa: PLR0913, PLR0917  (numba compiles plain arrays only)
    first: Hashes, second: Hashes, keys: Hashes, marks: Indices, mark: int, shift: np.uint64
) -> float:
    distinct, shared = 0, 0
    for key in first:
        slot = _find_slot(keys, marks, mark, shift, key)
        distinct += marks[slot] < mark
        keys[slot], marks[slot] = key, mark
    for key in second:
        slot = _find_slot(keys, marks, mark, shift, key)
        distinct += marks[slot] < mark
        shared += marks[slot] == mark
        keys[slot], marks[slot] = key, mark + 1
    return shared / distinct if distinct else 0.0


@jit
def jaccard(hashes: Hashes, starts: Indices, left: Indices, right: Indices, out: Similarities) -> None:
    """Write the exact Jaccard similarity of pairs of sets; 0 for two empty ones."""
    # One hash table serves all pairs: each pair uses marks of its own, so the table is never cleared.
    keys, marks, shift = np.empty(2, np.uint64), np.zeros(2, np.int64), _U64(63)
    for pair in range(len(left)):
        first = hashes[starts[left[pair]] : starts[left[pair] + 1]]
        second = hashes[starts[right[pair]] : starts[right[pair] + 1]]
        if 2 * (len(first) + len(second)) > len(keys):
            size = len(keys)
            while size < 2 * (len(first) + len(second)):
                size, shift = size * 2, shift - _U64(1)
            keys, marks = np.empty(size, np.uint64), np.zeros(size, np.int64)
        out[pair] = _similarity(first, second, keys, marks, 2 * pair + 1, shift)
