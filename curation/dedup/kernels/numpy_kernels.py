"""Compute shingle hashes, signatures and similarities in plain numpy, with the values of `numba_kernels`."""

import numpy as np
from numpy.typing import NDArray

from curation.dedup.kernels.text_buffer import decode_non_ascii
from curation.dedup.kernels.types import Bytes, Hashes, Indices, Shingling, Signatures, Similarities
from curation.text import (
    APOSTROPHE,
    HYPHEN,
    LETTER,
    MARK,
    OTHER,
    SINGLE,
    Normalization,
    character_classes,
    fold,
    tokenize_folded,
)

_U32, _U64 = np.uint32, np.uint64
_MAX_U64 = (1 << 64) - 1
_BASE, _BASIS = 0x9E3779B97F4A7C15, 0xCBF29CE484222325
_MIX, _MIX_2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
_ASCII_CLASSES = character_classes()[:128]
_IS_SYMBOL, _IS_WORD_BYTE = np.zeros(256, bool), np.ones(256, bool)
_IS_SYMBOL[:128], _IS_WORD_BYTE[:128] = np.isin(_ASCII_CLASSES, (SINGLE, HYPHEN)), _ASCII_CLASSES == LETTER
_LOW = np.array([ord(chr(i).lower()) if i < 128 else i for i in range(256)], np.uint8)
_LOW[~_IS_SYMBOL & ~_IS_WORD_BYTE] = 0
"""Lower case of ASCII letters; 0 for ASCII that is no letter, digit, underscore or symbol; other bytes unchanged."""
_WIDTH = np.array([1] * 0xC0 + [2] * 0x20 + [3] * 0x10 + [4] * 0x10, np.int64)
"""Bytes of a UTF-8 character by its first byte."""
_SPACE, _QUOTE, _HYPHEN = 32, ord("'"), ord("-")
_CURLY_QUOTE = "’".encode()
_STEPS = 8
"""Blocks of eight bytes that are hashed for all words at once; longer words are finished one by one."""


# Bytes to tokens to shingle hashes


def shingle_hashes(content: Bytes, begins: Indices, ends: Indices, shingling: Shingling) -> tuple[Hashes, Indices]:
    """Hash the shingles of the texts `content[begins[i] : ends[i]]`; see `numba_kernels.shingle_hashes`."""
    low, edges = _write_tokens(content, begins, ends, shingling.normalization)
    inside = low != 0
    unit_begins = np.flatnonzero(inside & ~np.concatenate(([False], inside[:-1])))
    owner = np.searchsorted(edges, unit_begins, side="right") - 1
    if shingling.by_word:
        widths = np.flatnonzero(inside & ~np.concatenate((inside[1:], [False]))) + 1 - unit_begins
        unit_hashes = _word_hashes(low, unit_begins, widths)
    else:
        # Join the tokens of a text by one space, and make each character a unit.
        next_in_text = unit_begins[1:][owner[1:] == owner[:-1]]
        low[next_in_text - 1] = _SPACE
        unit_begins = np.flatnonzero((low != 0) & ((low & 0xC0) != 0x80))
        owner = np.searchsorted(edges, unit_begins, side="right") - 1
        unit_hashes = _mix64(_load_blocks(low, unit_begins, _WIDTH[low[unit_begins]]))
    return _roll(unit_hashes, np.bincount(owner, minlength=len(edges)), shingling.length)


def _write_tokens(
    content: Bytes, begins: Indices, ends: Indices, normalization: Normalization
) -> tuple[Bytes, Indices]:
    """Return the tokens of all texts between zeros, at least eight zeros at the end, and the offset of each text."""
    pieces = [content[begin:end].tobytes() for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    joined, edges = _join(pieces)
    offsets, points, _ = decode_non_ascii(joined)
    kinds = character_classes()[points] if len(points) else np.zeros(0, np.uint8)
    # Code, marks, and tokens of one non-ASCII character are rare: the regular expression finds the tokens there.
    special = np.unique(np.searchsorted(edges, offsets[(kinds == MARK) | (kinds == SINGLE)], side="right") - 1)
    by_pattern = np.arange(len(pieces)) if normalization == "code" else special
    if not len(by_pattern):
        return _separate_symbols(_write_plain(joined), edges, np.zeros(len(joined), bool))
    for row in by_pattern.tolist():
        text = pieces[row].decode("utf-8", "surrogatepass")
        folded = text if normalization == "code" else fold(text)
        pieces[row] = "\0".join(tokenize_folded(folded, normalization)).encode("utf-8", "surrogatepass")
    joined, edges = _join(pieces)
    is_done = np.zeros(len(joined), bool)
    for row in by_pattern.tolist():
        is_done[edges[row] : edges[row] + len(pieces[row])] = True
    return _separate_symbols(np.where(is_done, joined, _write_plain(np.where(is_done, 0, joined))), edges, is_done)


def _write_plain(joined: Bytes) -> Bytes:
    """Return prose without marks and tokens of one non-ASCII character: folded words, symbols, zeros between."""
    offsets, points, widths = decode_non_ascii(joined)
    kinds = character_classes()[points] if len(points) else np.zeros(0, np.uint8)
    low = _LOW[joined]
    curly = offsets[kinds == APOSTROPHE]
    _fill(low, offsets[kinds == OTHER], widths[kinds == OTHER], 0)
    _fill(low, curly, widths[kinds == APOSTROPHE], 0)
    quotes = np.concatenate((np.flatnonzero(joined == _QUOTE), curly))
    sizes = np.concatenate((np.ones(len(quotes) - len(curly), np.int64), np.full(len(curly), len(_CURLY_QUOTE))))
    hyphens = np.flatnonzero(joined == _HYPHEN)
    # Look at the neighbors of all of them before any becomes part of a word.
    is_letter = _IS_WORD_BYTE[low]
    joins = is_letter[quotes - 1] & is_letter[quotes + sizes]
    low[hyphens[is_letter[hyphens - 1] & is_letter[hyphens + 1]]] = 0
    low[quotes[joins & (sizes == 1)]] = _QUOTE
    for offset, byte in enumerate(_CURLY_QUOTE):
        low[quotes[joins & (sizes > 1)] + offset] = byte
    return low


def _separate_symbols(low: Bytes, edges: Indices, is_done: NDArray[np.bool_]) -> tuple[Bytes, Indices]:
    """Put a zero before and after each ASCII symbol, but for bytes that are done."""
    is_symbol = _IS_SYMBOL[low] & ~is_done
    places = np.arange(len(low)) + 2 * np.cumsum(is_symbol) - is_symbol
    separated = np.zeros(len(low) + 2 * np.count_nonzero(is_symbol), np.uint8)
    separated[places] = low
    return separated, places[edges]


def _join(pieces: list[bytes]) -> tuple[Bytes, Indices]:
    """Concatenate texts with a zero around each; return the bytes and the offset of each text."""
    edges = np.cumsum([1, *(len(piece) + 1 for piece in pieces)])[:-1]
    return np.frombuffer(b"\0" + b"\0".join(pieces) + bytes(9), np.uint8), edges


def _fill(low: Bytes, offsets: Indices, widths: Indices, byte: int) -> None:
    for step in range(4):
        low[offsets[widths > step] + step] = byte


def _load_blocks(low: Bytes, offsets: Indices, widths: Indices) -> Hashes:
    """Load up to eight bytes from each offset on, little-endian; a width of 8 or more takes all eight."""
    unaligned = np.ndarray(len(low) - 7, "<u8", low, strides=(1,))
    blocks = unaligned[offsets].astype(_U64, copy=False)
    bits = 8 * np.minimum(widths, 7).astype(_U64)
    return np.where(widths >= 8, blocks, blocks & ((_U64(1) << bits) - _U64(1)))


def _word_hashes(low: Bytes, begins: Indices, widths: Indices) -> Hashes:
    values = np.full(len(begins), _BASIS, _U64)
    for step in range(_STEPS):
        unfinished = np.flatnonzero(widths >= 8 * step)
        block = _load_blocks(low, begins[unfinished] + 8 * step, widths[unfinished] - 8 * step)
        mixed = (values[unfinished] ^ block) * _U64(_MIX)
        values[unfinished] = mixed ^ (mixed >> _U64(32))
    for word in np.flatnonzero(widths >= 8 * _STEPS).tolist():
        rest = low[begins[word] + 8 * _STEPS : begins[word] + widths[word]].tobytes()
        values[word] = _hash_rest(int(values[word]), rest)
    values *= _U64(_MIX_2)
    return values ^ (values >> _U64(29))


def _hash_rest(value: int, rest: bytes) -> int:
    for i in range(0, len(rest) + 1, 8):
        value = ((value ^ int.from_bytes(rest[i : i + 8], "little")) * _MIX) & _MAX_U64
        value ^= value >> 32
    return value


def _roll(unit_hashes: Hashes, units: Indices, length: int) -> tuple[Hashes, Indices]:
    """Compute shingle hashes from unit hashes; `units` is the number of units of each text."""
    counts = np.maximum(units - length + 1, np.minimum(units, 1))
    starts = np.concatenate(([0], np.cumsum(counts)))
    first_units = np.cumsum(units) - units
    # Hash every run of `length` units, also across texts, and pick the runs that lie within one text.
    runs = np.zeros(max(0, len(unit_hashes) - length + 1), _U64)
    for step in range(length):
        runs *= _U64(_BASE)
        runs += unit_hashes[step : step + len(runs)]
    total = np.zeros(starts[-1], _U64)
    long = np.repeat(units >= length, counts)
    run_of_shingle = np.arange(starts[-1]) + np.repeat(first_units - starts[:-1], counts)
    total[long] = runs[run_of_shingle[long]]
    for step in range(length - 1):
        short = np.flatnonzero((units > step) & (units < length))
        total[starts[short]] = total[starts[short]] * _U64(_BASE) + unit_hashes[first_units[short] + step]
    return (total ^ (total >> _U64(33))) * _U64(_MIX), starts


def _mix64(value: Hashes) -> Hashes:
    value = (value ^ (value >> _U64(33))) * _U64(_MIX)
    value = (value ^ (value >> _U64(33))) * _U64(_MIX_2)
    return value ^ (value >> _U64(33))


# Shingle hashes to signatures and similarities


def signatures(hashes: Hashes, starts: Indices, multipliers: Signatures, offsets: Signatures, out: Signatures) -> None:
    """Write the MinHash values of each set, shape (sets, permutations); all ones for an empty set."""
    codes = _mix32((hashes >> _U64(32)).astype(np.uint32))
    out[:] = _U32(0xFFFFFFFF)
    nonempty = np.flatnonzero(np.diff(starts))
    if not len(nonempty):
        return
    begins, permuted = starts[nonempty], np.empty_like(codes)
    for column, (multiplier, offset) in enumerate(zip(multipliers, offsets, strict=True)):
        np.multiply(codes, multiplier, out=permuted)
        permuted += offset
        out[nonempty, column] = np.minimum.reduceat(permuted, begins)


def band_hashes(signatures: Signatures, rows_per_band: int, out: Hashes) -> None:
    """Write one hash a band of `rows_per_band` values, shape (texts, bands)."""
    for band in range(out.shape[1]):
        value = np.full(len(signatures), ((band + 1) * _BASE) & _MAX_U64, _U64)
        for column in range(band * rows_per_band, (band + 1) * rows_per_band):
            value = (value ^ signatures[:, column]) * _U64(_MIX)
            value ^= value >> _U64(32)
        out[:, band] = _mix64(value)


def agreement(signatures: Signatures, left: Indices, right: Indices, out: Similarities) -> None:
    """Write the share of values in which two signatures agree: the estimate of their Jaccard similarity."""
    out[:] = np.count_nonzero(signatures[left] == signatures[right], axis=1) / signatures.shape[1]


def jaccard(hashes: Hashes, starts: Indices, left: Indices, right: Indices, out: Similarities) -> None:
    """Write the exact Jaccard similarity of pairs of sets; 0 for two empty ones."""
    sets = {row: _distinct(hashes[starts[row] : starts[row + 1]]) for row in {*left.tolist(), *right.tolist()}}
    for pair, (left_row, right_row) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        both = np.sort(np.concatenate((sets[left_row], sets[right_row])))
        shared = np.count_nonzero(both[1:] == both[:-1])
        out[pair] = shared / (len(both) - shared) if len(both) else 0.0


def _distinct(hashes: Hashes) -> Hashes:
    ordered = np.sort(hashes)
    return np.concatenate((ordered[:1], ordered[1:][ordered[1:] != ordered[:-1]]))


def _mix32(value: Signatures) -> Signatures:
    value = (value ^ (value >> _U32(16))) * _U32(0x85EBCA6B)
    value = (value ^ (value >> _U32(13))) * _U32(0xC2B2AE35)
    return value ^ (value >> _U32(16))
