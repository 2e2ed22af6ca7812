import numpy as np

from curation.dedup.kernels.dispatch import numba_kernel, numpy_kernel


def test_both_kernels_give_the_same_values() -> None:
    dice = np.random.default_rng(4)
    starts = np.concatenate(([0], np.cumsum(dice.integers(0, 90, 300))))
    hashes = dice.integers(0, 2**64, starts[-1], dtype=np.uint64)
    scale, shift = dice.integers(0, 2**32, (2, 60), dtype=np.uint32)
    left, right = dice.integers(0, 300, (2, 500))
    answers = []
    for kernel in (numba_kernel(), numpy_kernel()):
        signatures, bands = np.empty((300, 60), np.uint32), np.empty((300, 12), np.uint64)
        agreement, jaccard = np.empty(500), np.empty(500)
        kernel.signatures(hashes, starts, scale, shift, signatures)
        kernel.band_hashes(signatures, 5, bands)
        kernel.agreement(signatures, left, right, agreement)
        kernel.jaccard(hashes, starts, left, right, jaccard)
        answers.append((signatures, bands, agreement, jaccard))
    for one, other in zip(*answers, strict=True):
        assert np.array_equal(one, other)
        assert one.any()
