"""Find semantic duplicates: texts whose vectors nearly coincide, each compared with the earlier texts that are kept.

Up to `brute_force_below` vectors, every pair is compared. Above, vectors are stored in an inverted file of k-means
clusters and each is compared with the vectors of its `n_probe` nearest clusters. SemDeDup (Abbas et al. 2023,
arXiv:2303.09540) looks into one cluster and misses one eighth of the duplicates.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curation.decisions import DuplicateMatches
from curation.embeddings.base import Vectors
from curation.embeddings.kmeans import fit_kmeans, nearest_clusters
from heirloom.settings import Settings

_BLOCK = 1024
_TILE = 16_384
_ROUNDING = 2e-6
"""Amount by which the product of a vector of length 1 with itself can fall short of 1."""
_SAMPLE_PER_CLUSTER = 30
_NONE_SIMILAR = -2
"""Below every cosine similarity."""


class SemanticSettings(Settings):
    """`[curate.semantic]`: definition of a semantic duplicate."""

    threshold: float = Field(
        0.92, gt=0, le=1, description="cosine similarity at or above which a text is a semantic duplicate of another"
    )
    brute_force_below: int = Field(
        50_000,
        ge=0,
        description="number of vectors, earlier ones included, up to which every pair is compared; above it an "
        "inverted "
        "file of k-means clusters is searched",
    )
    n_probe: int = Field(
        8,
        ge=1,
        description="with more vectors than `brute_force_below`: nearest k-means clusters that each vector is compared "
        "with; "
        "more find more duplicates and take longer",
    )


def find_semantic_duplicates(vectors: Vectors, reference: Vectors, settings: SemanticSettings) -> DuplicateMatches:
    """Find for each vector the most similar kept row of `reference` or earlier in `vectors`; the first of equals.

    Args:
        vectors: of length 1, shape (texts, dimensions).
        reference: of length 1, shape (rows, dimensions); always kept.
        settings: definition of a semantic duplicate.

    Returns:
        One match a row of `vectors`. With an inverted file, the similarity of a kept row is the one to the nearest row
        that it was compared with.
    """
    duplicate_of = np.full(len(vectors), -1, np.int64)
    similarity = np.full(len(vectors), np.nan)
    threshold = settings.threshold - _ROUNDING
    kept_vectors = _InvertedLists(reference, vectors, settings)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        stop = start + len(block)
        rows = np.arange(len(reference) + start, len(reference) + stop)
        best, nearest = kept_vectors.nearest(block, start)
        best_in_block, position = _nearest_in_block(block, best >= threshold, threshold)
        closer = best_in_block > best
        best, nearest = np.where(closer, best_in_block, best), np.where(closer, rows[position], nearest)
        dropped = best >= threshold
        similarity[start:stop] = np.where(nearest >= 0, np.clip(best, -1, 1), np.nan)
        duplicate_of[start:stop] = np.where(dropped, nearest, -1)
        kept_vectors.add(block[~dropped], rows[~dropped])
    return DuplicateMatches(duplicate_of=duplicate_of, similarity=similarity, estimated=np.full(len(vectors), np.nan))


def _nearest_in_block(
    block: Vectors, dropped: NDArray[np.bool_], threshold: float
) -> tuple[Vectors, NDArray[np.int64]]:
    """Return the similarity to the nearest kept row earlier in the block, and its position; -2 where there is none.

    `dropped` marks the rows that are duplicates of rows before the block.
    """
    similar = block @ block.T
    similar[np.triu_indices(len(block))] = _NONE_SIMILAR
    kept = ~dropped
    for row in np.flatnonzero(kept & (similar >= threshold).any(1)):
        kept[row] = not (similar[row, kept] >= threshold).any()
    similar[:, ~kept] = _NONE_SIMILAR
    position = similar.argmax(1)
    return similar[np.arange(len(block)), position], position


class _InvertedLists:
    """The kept vectors, those of one cluster contiguous in memory; one cluster where every pair is compared."""

    def __init__(self, reference: Vectors, vectors: Vectors, settings: SemanticSettings) -> None:
        total = len(reference) + len(vectors)
        dimensions = vectors.shape[1]
        if total <= settings.brute_force_below:
            clusters, self._probed = np.zeros(total, np.int64), np.zeros((len(vectors), 1), np.int64)
        else:
            count = max(1, round(total**0.5))
            centers = fit_kmeans(reference if len(reference) > _SAMPLE_PER_CLUSTER * count else vectors, count)
            self._probed = nearest_clusters(vectors, centers, settings.n_probe)
            clusters = np.concatenate([nearest_clusters(reference, centers)[:, 0], self._probed[:, 0]])
        sizes = np.bincount(clusters, minlength=1)
        self._clusters, self._starts = clusters, np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._filled = np.zeros(len(sizes), np.int64)
        self._vectors = np.empty((total, dimensions), np.float32)
        self._rows = np.empty(total, np.int64)
        self.add(reference, np.arange(len(reference)))

    def add(self, vectors: Vectors, rows: NDArray[np.int64]) -> None:
        """Append vectors to the lists of their clusters; `rows` count the reference first, then the texts."""
        order = np.argsort(self._clusters[rows], kind="stable")
        clusters, first, counts = np.unique(self._clusters[rows][order], return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(first, counts)
        slots = np.repeat(self._starts[clusters] + self._filled[clusters], counts) + rank
        self._vectors[slots], self._rows[slots] = vectors[order], rows[order]
        self._filled[clusters] += counts

    def nearest(self, block: Vectors, start: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Return the similarity to the nearest row in the lists, and that row; -2 and -1 where there is none."""
        best = np.full(len(block), _NONE_SIMILAR, np.float32)
        nearest = np.full(len(block), -1, np.int64)
        for probed in self._probed[start : start + len(block)].T:
            order = np.argsort(probed, kind="stable")
            clusters, first = np.unique(probed[order], return_index=True)
            for cluster, queries in zip(clusters.tolist(), np.split(order, first[1:]), strict=True):
                self._scan(block, queries, cluster, best, nearest)
        return best, nearest

    def _scan(
        self,
        block: Vectors,
        queries: NDArray[np.int64],
        cluster: int,
        best: Vectors,
        nearest: NDArray[np.int64],
    ) -> None:
        """Compare the rows `queries` of a block with one list, and update `best` and `nearest` in place."""
        begin = int(self._starts[cluster])
        end = begin + int(self._filled[cluster])
        query_vectors = block if len(queries) == len(block) else block[queries]
        for low in range(begin, end, _TILE):
            high = min(low + _TILE, end)
            similar = query_vectors @ self._vectors[low:high].T
            position = similar.argmax(1)
            value, row = similar[np.arange(len(queries)), position], self._rows[low + position]
            closer = (value > best[queries]) | ((value == best[queries]) & (row < nearest[queries]))
            best[queries[closer]], nearest[queries[closer]] = value[closer], row[closer]
