"""Semantic duplicates: texts whose vectors nearly coincide, each held against the texts before it that stay.

Up to `brute_force_below` vectors every pair is compared. Above, vectors are kept in k-means cells and each is held
against its nearest `probes` cells (SemDeDup, Abbas et al. 2023, looks into one and misses an eighth).
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.decisions import DuplicateMatches
from curation.embeddings.base import Vectors
from curation.embeddings.kmeans import fit_kmeans, nearest_clusters

_BLOCK = 1024
_TILE = 16_384
_ROUNDING = 2e-6
"""How far below 1 the product of a vector of length 1 with itself can come out."""


class SemanticSettings(BaseModel):
    """`[curate.semantic]`: what counts as meaning the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(
        0.92, gt=0, le=1, description="cosine similarity at or above which a text means the same as another"
    )
    brute_force_below: int = Field(
        50_000, ge=0, description="most vectors, earlier ones included, of which every pair is compared"
    )
    n_probe: int = Field(
        8, ge=1, description="with more vectors: how many of the nearest k-means cells each is held against"
    )


def find_semantic_duplicates(vectors: Vectors, reference: Vectors, settings: SemanticSettings) -> DuplicateMatches:
    """For each row of `vectors`, shape (texts, dimensions), the most similar kept row of `reference` or before it.

    Vectors have length 1. Of equally similar rows the first is the keeper. In cells, the similarity of a row
    that stays is that to the nearest row it was held against.
    """
    answer = DuplicateMatches.all_kept(len(vectors))
    threshold = settings.threshold - _ROUNDING
    shelves = _InvertedLists(reference, vectors, settings)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        rows = np.arange(len(reference) + start, len(reference) + start + len(block))
        best, keeper = shelves.nearest(block, start)
        among, place = _within(block, best >= threshold, threshold)
        closer = among > best
        best, keeper = np.where(closer, among, best), np.where(closer, rows[place], keeper)
        goes = best >= threshold
        answer.similarity[start : start + len(block)] = np.where(keeper >= 0, np.clip(best, -1, 1), np.nan)
        answer.duplicate_of[start : start + len(block)] = np.where(goes, keeper, -1)
        shelves.add(block[~goes], rows[~goes])
    return answer


def borderline_pairs(matches: DuplicateMatches, most: int = 20) -> NDArray[np.int64]:
    """The rows that go on the least evidence, least first: what to read when a threshold is chosen."""
    gone = np.flatnonzero(~matches.kept)
    return gone[np.argsort(matches.similarity[gone], kind="stable")[:most]]


def _within(block: Vectors, gone: NDArray[np.bool_], threshold: float) -> tuple[Vectors, NDArray[np.int64]]:
    """Similarity to the nearest row of the block that is before and stays, and its place; -2 where there is none."""
    similar = block @ block.T
    similar[np.triu_indices(len(block))] = -2
    stays = ~gone
    for row in np.flatnonzero(stays & (similar >= threshold).any(1)):
        stays[row] = not (similar[row, stays] >= threshold).any()
    similar[:, ~stays] = -2
    place = similar.argmax(1)
    return similar[np.arange(len(block)), place], place


class _InvertedLists:
    """The vectors that stay, those of one cell side by side; one cell where every pair is compared."""

    def __init__(self, reference: Vectors, vectors: Vectors, settings: SemanticSettings) -> None:
        total = len(reference) + len(vectors)
        dimensions = vectors.shape[1]
        if total <= settings.brute_force_below:
            cells, self._probed = np.zeros(total, np.int64), np.zeros((len(vectors), 1), np.int64)
        else:
            count = max(1, round(total**0.5))
            centres = fit_kmeans(reference if len(reference) > 30 * count else vectors, count)
            self._probed = nearest_clusters(vectors, centres, settings.n_probe)
            cells = np.concatenate([nearest_clusters(reference, centres)[:, 0], self._probed[:, 0]])
        sizes = np.bincount(cells, minlength=1)
        self._cells, self._starts = cells, np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self._filled = np.zeros(len(sizes), np.int64)
        self._vectors = np.empty((total, dimensions), np.float32)
        self._rows = np.empty(total, np.int64)
        self.add(reference, np.arange(len(reference)))

    def add(self, vectors: Vectors, rows: NDArray[np.int64]) -> None:
        order = np.argsort(self._cells[rows], kind="stable")
        cells, first, counts = np.unique(self._cells[rows][order], return_index=True, return_counts=True)
        rank = np.arange(len(rows)) - np.repeat(first, counts)
        slots = np.repeat(self._starts[cells] + self._filled[cells], counts) + rank
        self._vectors[slots], self._rows[slots] = vectors[order], rows[order]
        self._filled[cells] += counts

    def nearest(self, block: Vectors, start: int) -> tuple[Vectors, NDArray[np.int64]]:
        """Similarity to the nearest row that stays, and that row; -2 and -1 where there is none."""
        best, keeper = np.full(len(block), -2, np.float32), np.full(len(block), -1, np.int64)
        for probed in self._probed[start : start + len(block)].T:
            order = np.argsort(probed, kind="stable")
            cells, first = np.unique(probed[order], return_index=True)
            for cell, some in zip(cells.tolist(), np.split(order, first[1:]), strict=True):
                self._look(block, some, cell, best, keeper)
        return best, keeper

    def _look(
        self, block: Vectors, some: NDArray[np.int64], cell: int, best: Vectors, keeper: NDArray[np.int64]
    ) -> None:
        begin = int(self._starts[cell])
        asked = block if len(some) == len(block) else block[some]
        for low in range(begin, begin + int(self._filled[cell]), _TILE):
            high = min(low + _TILE, begin + int(self._filled[cell]))
            similar = asked @ self._vectors[low:high].T
            place = similar.argmax(1)
            value, row = similar[np.arange(len(some)), place], self._rows[low + place]
            closer = (value > best[some]) | ((value == best[some]) & (row < keeper[some]))
            best[some[closer]], keeper[some[closer]] = value[closer], row[closer]
