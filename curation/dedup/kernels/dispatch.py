"""Who does the work that is done once a shingle: numba where it is installed, numpy elsewhere, with the same values.

A kernel works on a block of texts at a time; blocks run on plain threads, each writes its own rows, and no result depends
on how many threads there are.
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from curation.text import character_classes

Places = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Values = NDArray[np.uint32]
Numbers = NDArray[np.float64]

_log = logging.getLogger(__name__)

_LITTLE = 4 << 20
"""Bytes that numpy does in some tenths of a second; loading machine code takes one, and compiling it once ten."""


@dataclass(frozen=True)
class HashKernel:
    """Five functions, and how many bytes of text they like at a time. Sets of hashes lie one after the other."""

    name: str
    shingle_hashes: Callable[[NDArray[np.uint8], Places, Places, bool, int], tuple[Hashes, Places]]
    """Content, begins, ends, by word, length: hashes of each text's shingles, and where each text's begin."""
    signatures: Callable[[Hashes, Places, Values, Values, Values], None]
    """Hashes, starts, scale and shift of each permutation, and where to write the least values."""
    band_hashes: Callable[[Values, int, Hashes], None]
    """Signatures, rows of a band, and where to write."""
    agreement: Callable[[Values, Places, Places, Numbers], None]
    """Signatures, left, right, and where to write the share of equal values."""
    jaccard: Callable[[Hashes, Places, Places, Places, Numbers], None]
    """Hashes, starts, left, right, and where to write the exact similarities."""
    block: int


def choose_kernel(size: int) -> HashKernel:
    """The kernel that is done first with so many bytes: the compiled one, but for a little numpy is quicker than loading it."""
    return numpy_kernel() if size < _LITTLE else default_kernel()


@lru_cache(maxsize=1)
def default_kernel() -> HashKernel:
    """The compiled kernel, or without numba the numpy one, said once in the log."""
    if importlib.util.find_spec("numba"):
        return numba_kernel()
    _log.warning("numba is not installed: near-duplicates are found by numpy, with the same answers and more time")
    return numpy_kernel()


@lru_cache(maxsize=1)
def numba_kernel() -> HashKernel:
    """The kernel made by numba."""
    from curation.dedup.kernels import numba_sets as compiled_sets
    from curation.dedup.kernels import numba_words as compiled_words

    shingle_hashes = partial(compiled_words.shingle_hashes, classes=character_classes())
    sets = compiled_sets
    return HashKernel(
        "numba", shingle_hashes, sets.signatures, sets.band_hashes, sets.agreement, sets.jaccard, block=1 << 18
    )


@lru_cache(maxsize=1)
def numpy_kernel() -> HashKernel:
    """The kernel made of numpy alone."""
    from curation.dedup.kernels import numpy_sets as vectorised_sets
    from curation.dedup.kernels import numpy_words as vectorised_words

    sets = vectorised_sets
    return HashKernel(
        "numpy",
        vectorised_words.shingle_hashes,
        sets.signatures,
        sets.band_hashes,
        sets.agreement,
        sets.jaccard,
        block=1 << 19,
    )


def map_blocks(work: Callable[[int, int], None], sizes: Places, block: int, threads: int | None) -> None:
    """`work(start, stop)` over all places, about `block` in size at a time, on `threads` threads (default: all cores)."""
    parts = list(_blocks(sizes, block))
    workers = min(threads or cores(), len(parts))
    if workers <= 1:
        for part in parts:
            work(*part)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda part: work(*part), parts):
            pass


def cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux has it, macOS has not
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _blocks(sizes: Places, block: int) -> Iterator[tuple[int, int]]:
    # Every place counts a little, so that empty ones fill a block too.
    filled = np.cumsum(sizes + 16) // block
    edges = [0, *(np.flatnonzero(np.diff(filled)) + 1).tolist(), len(sizes)]
    yield from ((start, stop) for start, stop in pairwise(edges) if start < stop)
