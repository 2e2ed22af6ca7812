from itertools import pairwise

import numpy as np
import pytest
from datasketch import MinHash

from curation.dedup.kernels.dispatch import HashKernel, numba_kernel, numpy_kernel

KERNELS = pytest.mark.parametrize("kernel", [numba_kernel(), numpy_kernel()], ids=lambda kernel: kernel.name)


def _sets(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Sets of few distinct hashes, with repeats, some of them empty."""
    dice = np.random.default_rng(seed)
    known = dice.integers(0, 2**64, 80, dtype=np.uint64)
    starts = np.concatenate(([0], np.cumsum(dice.integers(0, 40, count) * (dice.random(count) > 0.2))))
    return known[dice.integers(0, 80, starts[-1])], starts


@KERNELS
@pytest.mark.parametrize("permutations", [1, 15, 16, 17, 125, 128])
def test_signatures_are_datasketchs(kernel: HashKernel, permutations: int) -> None:
    hashes, starts = _sets(1)
    scale, shift = MinHash(num_perm=permutations, seed=1, scheme="affine32").permutations
    found = np.empty((len(starts) - 1, permutations), np.uint32)
    kernel.signatures(hashes, starts, scale, shift, found)
    for row, ours in enumerate(found):
        theirs = MinHash(num_perm=permutations, seed=1, scheme="affine32", hashfunc=int)
        theirs.update_batch((hashes[starts[row] : starts[row + 1]] >> np.uint64(32)).tolist())
        assert ours.tolist() == theirs.hashvalues.tolist()


@KERNELS
def test_similarity_is_that_of_sets(kernel: HashKernel) -> None:
    hashes, starts = _sets(2)
    sets = [set(hashes[start:stop].tolist()) for start, stop in pairwise(starts)]
    left, right = np.random.default_rng(3).integers(0, len(sets), (2, 400))
    found = np.empty(400)
    kernel.jaccard(hashes, starts, left, right, found)
    for one, other, similarity in zip(left, right, found, strict=True):
        union = sets[one] | sets[other]
        assert similarity == (len(sets[one] & sets[other]) / len(union) if union else 0.0)


@KERNELS
def test_agreement_is_the_share_of_equal_values(kernel: HashKernel) -> None:
    signatures = np.array([[1, 2, 3, 4], [1, 2, 0, 4], [9, 9, 9, 9]], np.uint32)
    found = np.empty(3)
    kernel.agreement(signatures, np.array([0, 0, 1]), np.array([1, 2, 1]), found)
    assert found.tolist() == [0.75, 0.0, 1.0]


@KERNELS
def test_nothing_is_no_trouble(kernel: HashKernel) -> None:
    none, nowhere = np.zeros(0, np.uint64), np.zeros(1, np.int64)
    out = np.zeros((0, 4), np.uint32)
    kernel.signatures(none, np.zeros(1, np.int64), np.ones(4, np.uint32), np.ones(4, np.uint32), out)
    kernel.band_hashes(out, 2, np.zeros((0, 2), np.uint64))
    kernel.jaccard(none, nowhere, nowhere[:0], nowhere[:0], np.zeros(0))
    kernel.agreement(out, nowhere[:0], nowhere[:0], np.zeros(0))
    assert not out.size
