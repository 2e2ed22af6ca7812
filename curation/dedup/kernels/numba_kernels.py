"""Compute shingle hashes, signatures and similarities, compiled by numba; `numpy_kernels` gives the same values.

The text of a row is first written to a scratch buffer, `low`, as its tokens: words as folded bytes, from 0x27 on,
separated by zeros, and ASCII symbols as numbers from 1 to 31, which need no separator. Other symbols, and letters of
scripts without spaces, are words of one character. Classes of characters come from `curation.text.character_classes`.

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
from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from curation import text
from curation.dedup.kernels.types import Bytes, Hashes, Indices, Shingling, Signatures, Similarities
from curation.text import Normalization

_Function = TypeVar("_Function", bound=Callable[..., object])
_Index: TypeAlias = int | np.int64
TokenTables: TypeAlias = tuple[Bytes, Bytes, Bytes]

_U8, _U32, _U64 = np.uint8, np.uint32, np.uint64
_BASE, _BASIS = _U64(0x9E3779B97F4A7C15), _U64(0xCBF29CE484222325)
_MIX, _MIX_2 = _U64(0xFF51AFD7ED558CCD), _U64(0xC4CEB9FE1A85EC53)
_ONES, _HIGHS = _U64(0x0101010101010101), _U64(0x8080808080808080)
_FIRST_WORD_BYTE = 32
"""Bytes of `low` below it end a word: 0 separates, 1 to 31 are ASCII symbols."""
_OTHER, _LETTER, _MARK, _SINGLE, _APOSTROPHE, _HYPHEN = (
    text.OTHER,
    text.LETTER,
    text.MARK,
    text.SINGLE,
    text.APOSTROPHE,
    text.HYPHEN,
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


# Bytes to tokens


@lru_cache(maxsize=2)
def token_tables(normalization: Normalization) -> TokenTables:
    """Return the tables that define the tokens.

    Returns:
        The class of each code point, shape (0x110000,); what stands in `low` for each ASCII byte, shape (128,): its
        folded byte in words, the number of a symbol, or 0; and the byte of each number, shape (32,).
    """
    classes = text.character_classes(normalization)
    codes, symbols = np.zeros(128, np.uint8), np.zeros(_FIRST_WORD_BYTE, np.uint8)
    letters, numbered = (np.flatnonzero(np.isin(classes[:128], kinds)) for kinds in (_LETTER, (_SINGLE, _HYPHEN)))
    codes[letters] = letters if normalization == "code" else [ord(chr(letter).lower()) for letter in letters]
    codes[numbered] = np.arange(1, len(numbered) + 1)
    symbols[1 : len(numbered) + 1] = numbered
    return classes, codes, symbols


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
def _class_at(content: Bytes, i: _Index, stop: int, classes: Bytes) -> int:
    """Return the class of the character that begins at `i`; OTHER at the end of the text."""
    return int(classes[_code_point(content, i)[0]]) if i < stop else _OTHER


@jit
def _class_before(content: Bytes, start: int, i: _Index, classes: Bytes) -> int:
    """Return the class of the character that ends before `i`; OTHER at the beginning of the text."""
    if i <= start:
        return _OTHER
    i -= 1
    while content[i] & 0xC0 == 0x80:
        i -= 1
    return int(classes[_code_point(content, i)[0]])


@jit
def _joins_words(content: Bytes, start: int, i: _Index, stop: int, classes: Bytes) -> bool:
    """Return whether the hyphen at `i` stands within a word, and so is not a symbol."""
    before = _class_before(content, start, i, classes)
    return bool(before in (_LETTER, _MARK) and _class_at(content, i + 1, stop, classes) == _LETTER)


@jit
def _write_one_by_one(content: Bytes, start: int, stop: int, tables: TokenTables, low: Bytes) -> int:
    """Write tokens to `low`, each followed by a 0; return the number of bytes written."""
    classes, codes, _ = tables
    size = 0
    # What the next character may continue: nothing, a single character (by a mark only), or a word.
    open_kind = _OTHER
    i: _Index = start
    while i < stop:
        point, width = _code_point(content, i)
        kind = int(classes[point])
        if kind == _HYPHEN:
            kind = _OTHER if _joins_words(content, start, i, stop, classes) else _SINGLE
        elif kind == _APOSTROPHE:
            joins = open_kind == _LETTER and _class_at(content, i + width, stop, classes) == _LETTER
            kind = _LETTER if joins else _OTHER
        continues = (kind == _MARK and open_kind != _OTHER) or (kind == _LETTER and open_kind == _LETTER)
        if open_kind != _OTHER and not continues:
            low[size] = 0
            size += 1
            open_kind = _OTHER
        if continues or kind in (_LETTER, _SINGLE):
            is_plain = kind == _SINGLE and width == 1 and _class_at(content, i + 1, stop, classes) != _MARK
            for j in range(i, i + width):
                is_coded = is_plain or (content[j] < _U8(128) and classes[content[j]] == _LETTER)
                low[size] = codes[content[j]] if is_coded else content[j]
                size += 1
            if not continues:
                open_kind = kind
        i += width
    return size


@jit
def _add_others(content: Bytes, start: int, stop: int, classes: Bytes, low: Bytes) -> bool:
    """Add apostrophes and non-ASCII characters of words to `low`, and drop hyphens within words.

    Goes from left to right: a word reaches up to `i` if the byte of `low` before `i` belongs to a word.

    Returns:
        False at a token that needs a separator, which has no room here.
    """
    i: _Index = start
    while i < stop:
        if i + 8 <= stop:
            # Skip eight bytes at once if none is an apostrophe (39), a hyphen (45) or above 127.
            block = load_u64(content, i)
            quotes, hyphens = block ^ (_ONES * _U64(39)), block ^ (_ONES * _U64(45))
            special = (block | ((quotes - _ONES) & ~quotes) | ((hyphens - _ONES) & ~hyphens)) & _HIGHS
            if special == _U64(0):
                i += 8
                continue
            i += np.int64(trailing_zeros(special) >> _U64(3))
        point, width = _code_point(content, i)
        kind = int(classes[point])
        before = low[i - start - 1] if i > start else _U8(0)
        inside = before >= _U8(_FIRST_WORD_BYTE)
        if kind == _HYPHEN and _joins_words(content, start, i, stop, classes):
            low[i - start] = _U8(0)
        if (kind == _SINGLE and width > 1) or (kind == _MARK and before > _U8(0) and not inside):
            return False
        joins = kind == _APOSTROPHE and _class_at(content, i + width, stop, classes) == _LETTER
        if (kind == _LETTER and width > 1) or (inside and (joins or kind == _MARK)):
            for j in range(i, i + width):
                low[j - start] = content[j]
        i += width
    return True


@jit
def write_tokens(content: Bytes, start: int, stop: int, tables: TokenTables, low: Bytes) -> int:
    """Write the tokens of a text to `low`, followed by 16 zeros.

    Args:
        content: folded texts as UTF-8, see `text_buffer`.
        start: offset of the text.
        stop: end of the text.
        tables: see `token_tables`.
        low: at least 2 * (stop - start) + 16 bytes.

    Returns:
        The number of bytes written, without the 16 zeros.
    """
    classes, codes, _ = tables
    size = stop - start
    for i in range(start, stop):
        byte = content[i]
        low[i - start] = codes[byte] if byte < _U8(128) else _U8(0)
    if not _add_others(content, start, stop, classes, low):
        size = _write_one_by_one(content, start, stop, tables, low)
    low[size : size + 16] = _U8(0)
    return size


# Tokens to shingle hashes


@jit
def _mix64(value: np.uint64) -> np.uint64:
    value ^= value >> _U64(33)
    value *= _MIX
    value ^= value >> _U64(33)
    value *= _MIX_2
    return value ^ (value >> _U64(33))


@jit
def _finish_word(value: np.uint64, last_block: np.uint64) -> np.uint64:
    value = (value ^ last_block) * _MIX
    value = (value ^ (value >> _U64(32))) * _MIX_2
    return value ^ (value >> _U64(29))


@jit
def _find_end(block: np.uint64) -> np.uint64:
    """Return 0 if all eight bytes belong to a word, else a value whose lowest set bit is in the first that does not."""
    return (block - _ONES * _U64(_FIRST_WORD_BYTE)) & ~block & _HIGHS


@jit
def _word_hash(low: Bytes, i: _Index) -> tuple[np.uint64, _Index]:
    """Return the hash of the word that begins at `i`, computed eight bytes a step, and the index of its end."""
    value = _BASIS
    block = load_u64(low, i)
    end = _find_end(block)
    while end == _U64(0):
        value = (value ^ block) * _MIX
        value ^= value >> _U64(32)
        i += 8
        block = load_u64(low, i)
        end = _find_end(block)
    width = trailing_zeros(end) >> _U64(3)
    return _finish_word(value, block & ((_U64(1) << (width << _U64(3))) - _U64(1))), i + np.int64(width)


@jit
def _finish_shingle(total: np.uint64) -> np.uint64:
    return (total ^ (total >> _U64(33))) * _MIX


@jit
def _base_to_the(exponent: int) -> np.uint64:
    power = _U64(1)
    for _ in range(exponent):
        power *= _BASE
    return power


@jit
def _word_shingles(low: Bytes, size: int, symbols: Bytes, window: Hashes, out: Hashes) -> int:
    """Write the hash of every run of `len(window)` tokens; return the number of hashes written.

    `window` is scratch space for the hashes of the last tokens.
    """
    length = len(window)
    power = _base_to_the(length)
    tokens, slot, total = 0, 0, _U64(0)
    i: _Index = 0
    while i < size:
        if low[i] == _U8(0):
            block = load_u64(low, i)
            i += np.int64(trailing_zeros(block) >> _U64(3)) if block != _U64(0) else 8
            continue
        if low[i] < _U8(_FIRST_WORD_BYTE):
            value = _finish_word(_BASIS, _U64(symbols[low[i]]))
            i += 1
        else:
            value, i = _word_hash(low, i)
        total = total * _BASE + value
        if tokens >= length:
            total -= window[slot] * power
        window[slot] = value
        slot = slot + 1 if slot + 1 < length else 0
        tokens += 1
        if tokens >= length:
            out[tokens - length] = _finish_shingle(total)
    if 0 < tokens < length:
        out[0] = _finish_shingle(total)
    return max(tokens - length + 1, min(tokens, 1))


@jit
def _character_shingles(low: Bytes, size: int, symbols: Bytes, window: Hashes, out: Hashes) -> int:
    """As `_word_shingles`, over characters: tokens are joined by one space."""
    length = len(window)
    power = _base_to_the(length)
    characters, slot, i, total = 0, 0, 0, _U64(0)
    is_token_open, is_space_due = False, False
    while i < size:
        byte = low[i]
        if byte == _U8(0):
            is_space_due, is_token_open = characters > 0, False
            i += 1
            continue
        is_symbol = byte < _U8(_FIRST_WORD_BYTE)
        if is_space_due or (is_symbol and is_token_open):
            value, is_space_due, is_token_open = _mix64(_U64(32)), False, False
        elif is_symbol:
            value, is_space_due = _mix64(_U64(symbols[byte])), True
            i += 1
        else:
            width = _code_point(low, i)[1]
            value, is_token_open = _mix64(load_u64(low, i) & ((_U64(1) << _U64(8 * width)) - _U64(1))), True
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


def shingle_hashes(content: Bytes, begins: Indices, ends: Indices, shingling: Shingling) -> tuple[Hashes, Indices]:
    """Hash the shingles of the texts `content[begins[i] : ends[i]]`.

    Args:
        content: folded texts as UTF-8, see `text_buffer`.
        begins: offset of each text, shape (texts,).
        ends: end of each text, shape (texts,).
        shingling: what a shingle is.

    Returns:
        The hashes of all texts, concatenated, and the offset of each text's hashes with their total, shape (texts +
        1,).
    """
    tables = token_tables(shingling.normalization)
    return _shingle_hashes(content, begins, ends, tables, (shingling.by_word, shingling.length))


@jit
def _shingle_hashes(
    content: Bytes, begins: Indices, ends: Indices, tables: TokenTables, shingling: tuple[bool, int]
) -> tuple[Hashes, Indices]:
    by_word, length = shingling
    capacity, longest = 0, 0
    for i in range(len(begins)):
        size = ends[i] - begins[i]
        # Between two symbols of one byte there are two characters, a symbol and a space.
        capacity += (size if by_word else 2 * size) + 2
        longest = max(longest, size)
    out, starts = np.empty(capacity, np.uint64), np.zeros(len(begins) + 1, np.int64)
    # A zero may follow each character.
    low, window = np.empty(2 * longest + 32, np.uint8), np.empty(length, np.uint64)
    for i in range(len(begins)):
        size = write_tokens(content, begins[i], ends[i], tables, low)
        target = out[starts[i] :]
        if by_word:
            starts[i + 1] = starts[i] + _word_shingles(low, size, tables[2], window, target)
        else:
            starts[i + 1] = starts[i] + _character_shingles(low, size, tables[2], window, target)
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
