"""Sets of shingle hashes to signatures and similarities, compiled by numba; `vectorised.py` gives the same values without it.

Sets lie one after the other: those of row `i` are `hashes[starts[i] : starts[i + 1]]`, with repeats.
numba looks for changes in the file of a cached function alone, so this file calls no kernel of another one.
"""

import numpy as np
from numpy.typing import NDArray

from curation.dedup.kernels.numba_compile import jit

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]
Values = NDArray[np.uint32]

_U32, _U64 = np.uint32, np.uint64
_BASE, _MIX, _MIX_2 = _U64(0x9E3779B97F4A7C15), _U64(0xFF51AFD7ED558CCD), _U64(0xC4CEB9FE1A85EC53)


@jit
def _mix32(value: np.uint32) -> np.uint32:
    # The product of two uint32 is uint64 to numba, so it is cut back each time.
    value = _U32(_U32(value ^ (value >> _U32(16))) * _U32(0x85EBCA6B))
    value = _U32(_U32(value ^ (value >> _U32(13))) * _U32(0xC2B2AE35))
    return _U32(value ^ (value >> _U32(16)))


@jit
def _permuted(code: np.uint32, scale: np.uint32, shift: np.uint32) -> np.uint32:
    return _U32(_U32(scale * code) + shift)


@jit
def _least(codes: Values, scale: Values, shift: Values, least: Values) -> None:
    """Least permuted code for each permutation. Eight codes a pass keep the permutations in registers."""
    least[:] = _U32(0xFFFFFFFF)
    whole = len(codes) - len(codes) % 8
    for i in range(0, whole, 8):
        c0, c1, c2, c3 = codes[i], codes[i + 1], codes[i + 2], codes[i + 3]
        c4, c5, c6, c7 = codes[i + 4], codes[i + 5], codes[i + 6], codes[i + 7]
        for j in range(len(least)):
            a, b, found = scale[j], shift[j], least[j]
            found = min(found, _permuted(c0, a, b))
            found = min(found, _permuted(c1, a, b))
            found = min(found, _permuted(c2, a, b))
            found = min(found, _permuted(c3, a, b))
            found = min(found, _permuted(c4, a, b))
            found = min(found, _permuted(c5, a, b))
            found = min(found, _permuted(c6, a, b))
            least[j] = min(found, _permuted(c7, a, b))
    for i in range(whole, len(codes)):
        for j in range(len(least)):
            least[j] = min(least[j], _permuted(codes[i], scale[j], shift[j]))


@jit
def signatures(hashes: Hashes, starts: Places, scale: Values, shift: Values, out: Values) -> None:
    """MinHash values of each set, shape (sets, permutations); all ones for an empty set."""
    permutations = out.shape[1]
    # Whole vectors: sixteen permutations fill a register of 512 bits.
    padded = -(-permutations // 16) * 16
    scales, shifts, least = np.zeros(padded, np.uint32), np.zeros(padded, np.uint32), np.empty(padded, np.uint32)
    scales[:permutations], shifts[:permutations] = scale, shift
    longest = 0
    for row in range(len(starts) - 1):
        longest = max(longest, starts[row + 1] - starts[row])
    codes = np.empty(longest, np.uint32)
    for row in range(len(starts) - 1):
        size = starts[row + 1] - starts[row]
        for i in range(size):
            codes[i] = _mix32(_U32(hashes[starts[row] + i] >> _U64(32)))
        _least(codes[:size], scales, shifts, least)
        out[row] = least[:permutations]


@jit
def band_hashes(found: Values, rows: int, out: Hashes) -> None:
    """One hash a band of `rows` values."""
    for row in range(len(found)):
        for band in range(out.shape[1]):
            value = _U64(band + 1) * _BASE
            for i in range(band * rows, (band + 1) * rows):
                value = (value ^ _U64(found[row, i])) * _MIX
                value ^= value >> _U64(32)
            value ^= value >> _U64(33)
            value *= _MIX
            value ^= value >> _U64(33)
            value *= _MIX_2
            out[row, band] = value ^ (value >> _U64(33))


@jit
def agreement(found: Values, left: Places, right: Places, out: NDArray[np.float64]) -> None:
    """Share of values in which two signatures agree: the estimate of their similarity."""
    size = found.shape[1]
    for pair in range(len(left)):
        one, other = found[left[pair]], found[right[pair]]
        agreeing = _U32(0)
        for i in range(size):
            agreeing += _U32(one[i] == other[i])
        out[pair] = agreeing / size


@jit
def _slot(keys: Hashes, marks: Places, seen: int, shift: np.uint64, key: np.uint64) -> np.int64:
    """Where this key is, or should go, in a table whose other marks are below `seen`."""
    slot = np.int64(key >> shift)
    while marks[slot] >= seen and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@jit
def _similarity(one: Hashes, other: Hashes, keys: Hashes, marks: Places, seen: int, shift: np.uint64) -> float:
    distinct, shared = 0, 0
    for key in one:
        slot = _slot(keys, marks, seen, shift, key)
        distinct += marks[slot] < seen
        keys[slot], marks[slot] = key, seen
    for key in other:
        slot = _slot(keys, marks, seen, shift, key)
        distinct += marks[slot] < seen
        shared += marks[slot] == seen
        keys[slot], marks[slot] = key, seen + 1
    return shared / distinct if distinct else 0.0


@jit
def jaccard(hashes: Hashes, starts: Places, left: Places, right: Places, out: NDArray[np.float64]) -> None:
    """Exact Jaccard similarity of pairs of sets; 0 for two empty ones."""
    keys, marks, shift = np.empty(2, np.uint64), np.zeros(2, np.int64), _U64(63)
    for pair in range(len(left)):
        one = hashes[starts[left[pair]] : starts[left[pair] + 1]]
        other = hashes[starts[right[pair]] : starts[right[pair] + 1]]
        if 2 * (len(one) + len(other)) > len(keys):
            size = len(keys)
            while size < 2 * (len(one) + len(other)):
                size, shift = size * 2, shift - _U64(1)
            keys, marks = np.empty(size, np.uint64), np.zeros(size, np.int64)
        out[pair] = _similarity(one, other, keys, marks, 2 * pair + 1, shift)
