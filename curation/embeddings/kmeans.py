"""Which vectors lie together: cells of a spherical k-means, the same for the same vectors.

Cells cut a search or a choice into parts that are small enough; they are no clusters that mean anything.
"""

import numpy as np
from numpy.typing import NDArray

from curation.embeddings.base import Vectors, l2_normalize

_BLOCK = 8192
_SAMPLE_PER_CELL = 30
_ROUNDS = 8


def fit_kmeans(vectors: Vectors, num_clusters: int) -> Vectors:
    """Centres of length 1, shape (at most `cells`, dimensions), from a sample of 30 vectors a cell."""
    rng = np.random.default_rng(0)
    sample = vectors[np.sort(rng.permutation(len(vectors))[: _SAMPLE_PER_CELL * num_clusters])]
    centres = sample[np.sort(rng.permutation(len(sample))[:num_clusters])]
    for _ in range(_ROUNDS):
        nearest = nearest_clusters(sample, centres)[:, 0]
        order = np.argsort(nearest, kind="stable")
        filled, starts = np.unique(nearest[order], return_index=True)
        # A cell that lost all its vectors keeps its centre.
        centres = centres.copy()
        centres[filled] = l2_normalize(np.add.reduceat(sample[order], starts, axis=0))
    return centres


def nearest_clusters(vectors: Vectors, centers: Vectors, n_probe: int = 1) -> NDArray[np.int64]:
    """The nearest cells of each vector, shape (vectors, at most `probes`), nearest first."""
    n_probe = min(n_probe, len(centers))
    found = np.empty((len(vectors), n_probe), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        away = -(vectors[start : start + _BLOCK] @ centers.T)
        some = np.argpartition(away, n_probe - 1, axis=1)[:, :n_probe]
        order = np.argsort(np.take_along_axis(away, some, 1), axis=1, kind="stable")
        found[start : start + _BLOCK] = np.take_along_axis(some, order, 1)
    return found
