"""Cluster vectors by spherical k-means, deterministically.

Clusters split a search or a selection into parts of manageable size; they are not meant to be interpreted.
"""

import numpy as np
from numpy.typing import NDArray

from curation.embeddings.base import Vectors, l2_normalize

_BLOCK = 8192
_SAMPLE_PER_CLUSTER = 30
_ITERATIONS = 8


def fit_kmeans(vectors: Vectors, num_clusters: int) -> Vectors:
    """Return centers of length 1, shape (at most `num_clusters`, dimensions), fitted to 30 vectors per cluster."""
    rng = np.random.default_rng(0)
    sample = vectors[np.sort(rng.permutation(len(vectors))[: _SAMPLE_PER_CLUSTER * num_clusters])]
    centers = sample[np.sort(rng.permutation(len(sample))[:num_clusters])]
    for _ in range(_ITERATIONS):
        nearest = nearest_clusters(sample, centers)[:, 0]
        order = np.argsort(nearest, kind="stable")
        nonempty, starts = np.unique(nearest[order], return_index=True)
        # A cluster that lost all its vectors keeps its center.
        centers = centers.copy()
        centers[nonempty] = l2_normalize(np.add.reduceat(sample[order], starts, axis=0))
    return centers


def nearest_clusters(vectors: Vectors, centers: Vectors, n_probe: int = 1) -> NDArray[np.int64]:
    """Return the nearest clusters of each vector, shape (vectors, at most `n_probe`), nearest first."""
    n_probe = min(n_probe, len(centers))
    nearest = np.empty((len(vectors), n_probe), np.int64)
    for start in range(0, len(vectors), _BLOCK):
        distance = -(vectors[start : start + _BLOCK] @ centers.T)
        candidates = np.argpartition(distance, n_probe - 1, axis=1)[:, :n_probe]
        order = np.argsort(np.take_along_axis(distance, candidates, 1), axis=1, kind="stable")
        nearest[start : start + _BLOCK] = np.take_along_axis(candidates, order, 1)
    return nearest
