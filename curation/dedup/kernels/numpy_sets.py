"""Sets of shingle hashes to signatures and similarities by numpy alone, with the values of `compiled_sets.py`."""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]
Values = NDArray[np.uint32]

_U32, _U64 = np.uint32, np.uint64
_BASE, _MIX, _MIX_2 = 0x9E3779B97F4A7C15, _U64(0xFF51AFD7ED558CCD), _U64(0xC4CEB9FE1A85EC53)


def signatures(hashes: Hashes, starts: Places, scale: Values, shift: Values, out: Values) -> None:
    """MinHash values of each set, shape (sets, permutations); all ones for an empty set."""
    codes = _mix32((hashes >> _U64(32)).astype(np.uint32))
    out[:] = _U32(0xFFFFFFFF)
    filled = np.flatnonzero(np.diff(starts))
    if not len(filled):
        return
    begins, permuted = starts[filled], np.empty_like(codes)
    for place, (a, b) in enumerate(zip(scale, shift, strict=True)):
        np.multiply(codes, a, out=permuted)
        permuted += b
        out[filled, place] = np.minimum.reduceat(permuted, begins)


def band_hashes(found: Values, rows: int, out: Hashes) -> None:
    """One hash a band of `rows` values."""
    for band in range(out.shape[1]):
        value = np.full(len(found), ((band + 1) * _BASE) & ((1 << 64) - 1), _U64)
        for place in range(band * rows, (band + 1) * rows):
            value = (value ^ found[:, place]) * _MIX
            value ^= value >> _U64(32)
        value = (value ^ (value >> _U64(33))) * _MIX
        value = (value ^ (value >> _U64(33))) * _MIX_2
        out[:, band] = value ^ (value >> _U64(33))


def agreement(found: Values, left: Places, right: Places, out: NDArray[np.float64]) -> None:
    """Share of values in which two signatures agree: the estimate of their similarity."""
    out[:] = np.count_nonzero(found[left] == found[right], axis=1) / found.shape[1]


def jaccard(hashes: Hashes, starts: Places, left: Places, right: Places, out: NDArray[np.float64]) -> None:
    """Exact Jaccard similarity of pairs of sets; 0 for two empty ones."""
    sets = {row: _distinct(hashes[starts[row] : starts[row + 1]]) for row in {*left.tolist(), *right.tolist()}}
    for pair, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        both = np.sort(np.concatenate((sets[one], sets[other])))
        shared = np.count_nonzero(both[1:] == both[:-1])
        out[pair] = shared / (len(both) - shared) if len(both) else 0.0


def _distinct(hashes: Hashes) -> Hashes:
    ordered = np.sort(hashes)
    return np.concatenate((ordered[:1], ordered[1:][ordered[1:] != ordered[:-1]]))


def _mix32(value: Values) -> Values:
    value = (value ^ (value >> _U32(16))) * _U32(0x85EBCA6B)
    value = (value ^ (value >> _U32(13))) * _U32(0xC2B2AE35)
    return value ^ (value >> _U32(16))
