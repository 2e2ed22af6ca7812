"""Choose between the numba and the numpy kernel, and run a kernel over blocks of texts on several threads.

Both kernels return the same values. A kernel processes one block of texts at a time. Blocks run on plain threads and
each block writes its own rows, so results do not depend on the number of threads.
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from curation.dedup.kernels.types import Bytes, Hashes, Indices, Shingling, Signatures, Similarities

_log = logging.getLogger(__name__)

_MIN_BYTES_FOR_NUMBA = 4 << 20
"""numpy hashes this many bytes in tenths of a second; loading numba's machine code takes 1 s, compiling it 10 s."""

_BYTES_PER_ITEM = 16
"""Added to the size of every item, so that empty texts fill a block too."""


@dataclass(frozen=True, kw_only=True)
class HashKernel:
    """The functions of one kernel. Sets of hashes are concatenated; `starts` holds the offset of each and the total."""

    name: str
    shingle_hashes: Callable[[Bytes, Indices, Indices, Shingling], tuple[Hashes, Indices]]
    """(content, begins, ends, shingling) -> (hashes of each text's shingles, starts)."""
    signatures: Callable[[Hashes, Indices, Signatures, Signatures, Signatures], None]
    """(hashes, starts, multipliers, offsets, out): writes the least permuted value of each set and permutation."""
    band_hashes: Callable[[Signatures, int, Hashes], None]
    """(signatures, rows_per_band, out)."""
    agreement: Callable[[Signatures, Indices, Indices, Similarities], None]
    """(signatures, left, right, out): writes the share of equal values of each pair."""
    jaccard: Callable[[Hashes, Indices, Indices, Indices, Similarities], None]
    """(hashes, starts, left, right, out): writes the exact similarity of each pair of sets."""
    block_bytes: int
    """Bytes of text to process at a time."""
    threads: int | None = None
    """Number of threads; None: all cores that this process may use."""


def choose_kernel(num_bytes: int) -> HashKernel:
    """Return the faster kernel for this many bytes: numpy on little text, where loading numba costs more."""
    return numpy_kernel() if num_bytes < _MIN_BYTES_FOR_NUMBA else default_kernel()


@lru_cache(maxsize=1)
def default_kernel() -> HashKernel:
    """Return the numba kernel, or the numpy kernel with one log warning if numba is not installed."""
    if importlib.util.find_spec("numba"):
        return numba_kernel()
    _log.warning("numba is not installed: near-duplicate search runs on numpy, with the same results but slower")
    return numpy_kernel()


@lru_cache(maxsize=1)
def numba_kernel() -> HashKernel:
    """Return the kernel compiled by numba."""
    from curation.dedup.kernels import numba_kernels

    return HashKernel(
        name="numba",
        shingle_hashes=numba_kernels.shingle_hashes,
        signatures=numba_kernels.signatures,
        band_hashes=numba_kernels.band_hashes,
        agreement=numba_kernels.agreement,
        jaccard=numba_kernels.jaccard,
        block_bytes=1 << 18,
    )


@lru_cache(maxsize=1)
def numpy_kernel() -> HashKernel:
    """Return the kernel that needs numpy only."""
    from curation.dedup.kernels import numpy_kernels

    return HashKernel(
        name="numpy",
        shingle_hashes=numpy_kernels.shingle_hashes,
        signatures=numpy_kernels.signatures,
        band_hashes=numpy_kernels.band_hashes,
        agreement=numpy_kernels.agreement,
        jaccard=numpy_kernels.jaccard,
        block_bytes=1 << 19,
    )


def map_blocks(work: Callable[[int, int], None], sizes: Indices, block_bytes: int, threads: int | None) -> None:
    """Call `work(start, stop)` on consecutive ranges that cover all items.

    Args:
        work: processes items `start` to `stop - 1`; calls may run at the same time.
        sizes: bytes of each item, shape (items,).
        block_bytes: approximate size of a range.
        threads: number of threads; None: all cores that this process may use.
    """
    blocks = list(_blocks(sizes, block_bytes))
    workers = min(threads or available_cores(), len(blocks))
    if workers <= 1:
        for start, stop in blocks:
            work(start, stop)
        return
    with ThreadPoolExecutor(workers) as pool:
        # Consume the results, so that an exception in a block is raised here.
        for _ in pool.map(lambda block: work(*block), blocks):
            pass


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it, macOS has not
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _blocks(sizes: Indices, block_bytes: int) -> Iterator[tuple[int, int]]:
    block_number = np.cumsum(sizes + _BYTES_PER_ITEM) // block_bytes
    edges = [0, *(np.flatnonzero(np.diff(block_number)) + 1).tolist(), len(sizes)]
    for start, stop in pairwise(edges):
        if start < stop:
            yield start, stop
