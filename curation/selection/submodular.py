"""Select rows greedily by their marginal gain: facility location, k-center, and determinantal point processes.

Each function selects the same rows as the plain greedy rule, but faster: the gain of a row never grows while others are
selected, so an earlier gain is an upper bound, and a row is evaluated again only when its bound is the highest (lazy
greedy, Minoux 1978). Each returns the score of each row at the time it was selected, shape (rows,), NaN for rows that
were not. The score is the gain times `diversity_weight` plus the quality times `1 - diversity_weight`, scaled to the
largest gain.
"""

import heapq
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation.embeddings.base import Vectors

Scores: TypeAlias = NDArray[np.float64]

_BATCH = 128
_TILE = 8192
_RIDGE = 1e-3
"""Added to the diagonal of the DPP kernel."""
_KERNEL_WIDTH = 2.0


@dataclass(frozen=True)
class SelectionRequest:
    """Numbers of rows to select, and the weights of diversity and quality."""

    strata: NDArray[np.int64]
    """Stratum of each row, numbered from 0."""
    quotas: NDArray[np.int64]
    """Number of rows to select from each stratum."""
    quality: Scores
    """Quality of each row, from 0 to 1."""
    diversity_weight: float
    """1: select by gain only; 0: select by quality only."""


def facility_location(vectors: Vectors, request: SelectionRequest) -> Scores:
    """Select by the gain in the sum of all rows' cosine similarity (at least 0) to their nearest selected row.

    Reaches at least 1 - 1/e of the best sum with one stratum (Nemhauser, Wolsey & Fisher 1978), at least half with
    several (Fisher, Nemhauser & Wolsey 1978). Needs 4 bytes of memory times the square of the number of rows.
    """
    scores, remaining = np.full(len(vectors), np.nan), request.quotas.copy()
    similar = vectors @ vectors.T
    np.maximum(similar, 0, out=similar)
    totals = similar.sum(1)
    quality = (1 - request.diversity_weight) * float(totals.max(initial=0)) * request.quality
    covered, gains = np.zeros(len(vectors), np.float32), np.empty(len(vectors), np.float32)
    # Upper bounds of the scores, negated for a queue that gives the highest first.
    queue = [(-(request.diversity_weight * float(total) + quality[row]), row) for row, total in enumerate(totals)]
    heapq.heapify(queue)
    while remaining.any():
        _, row = heapq.heappop(queue)
        if not remaining[request.strata[row]]:
            continue
        np.subtract(similar[row], covered, out=gains)
        score = request.diversity_weight * float(np.maximum(gains, 0, out=gains).sum()) + quality[row]
        if queue and score < -queue[0][0]:
            heapq.heappush(queue, (-score, row))
            continue
        scores[row] = score
        remaining[request.strata[row]] -= 1
        np.maximum(covered, similar[row], out=covered)
    return scores


def k_center(vectors: Vectors, request: SelectionRequest) -> Scores:
    """Select by the distance, 1 - cosine, to the nearest selected row; the first row has the largest distance, 2.

    With one stratum, no selection of this size has less than half the largest Euclidean distance (Gonzalez 1985).
    """
    # Works in batches: select among the rows of highest score while no row outside the batch can have a higher one,
    # then update the distances of all rows by one matrix product.
    scores, remaining = np.full(len(vectors), np.nan), request.quotas.copy()
    distance = np.full(len(vectors), 2.0)
    while remaining.any():
        selectable = np.isnan(scores) & (remaining[request.strata] > 0)
        score = np.where(selectable, _weighted(distance, 2, request.quality, request), -np.inf)
        order = np.argsort(-score, kind="stable")[: _BATCH + 1]
        batch = order[:_BATCH]
        best_outside = score[order[-1]] if len(order) > _BATCH else -np.inf
        batch_distances = 1 - (vectors[batch] @ vectors[batch].T).astype(np.float64)
        batch_distance = distance[batch]
        selected: list[int] = []
        while remaining.any():
            selectable = np.isnan(scores[batch]) & (remaining[request.strata[batch]] > 0)
            batch_score = np.where(selectable, _weighted(batch_distance, 2, request.quality[batch], request), -np.inf)
            position = int(batch_score.argmax())
            if (selected and batch_score[position] <= best_outside) or batch_score[position] == -np.inf:
                break
            row = int(batch[position])
            scores[row] = batch_score[position]
            remaining[request.strata[row]] -= 1
            selected.append(row)
            np.minimum(batch_distance, batch_distances[position], out=batch_distance)
        for start in range(0, len(vectors), _TILE):
            tile = distance[start : start + _TILE]
            np.minimum(tile, 1 - (vectors[start : start + _TILE] @ vectors[selected].T).max(1), out=tile)
    return scores


def dpp(vectors: Vectors, request: SelectionRequest) -> Scores:
    """Select by the part of a row's variance, from 0 to 1, that the selected rows do not explain.

    Greedy MAP inference for a determinantal point process (Chen, Zhang & Zhou 2018) with the kernel exp(-2 (1 -
    cosine)). Needs 4 bytes of memory times rows times selected rows, and time that grows with the square of the
    selected rows.
    """
    num_selected = int(request.quotas.sum())
    scores, remaining = np.full(len(vectors), np.nan), request.quotas.copy()
    variance = np.full(len(vectors), 1 + _RIDGE)
    factors = np.zeros((num_selected, len(vectors)), np.float32)
    unselected = np.ones(len(vectors), bool)
    for step in range(num_selected):
        selectable = unselected & (remaining[request.strata] > 0)
        score = np.where(selectable, _weighted(variance, 1, request.quality, request), -np.inf)
        row = int(score.argmax())
        scores[row], unselected[row] = score[row], False
        remaining[request.strata[row]] -= 1
        kernel = np.exp(-_KERNEL_WIDTH * (1 - vectors @ vectors[row]))
        factors[step] = (kernel - factors[:step, row] @ factors[:step]) / np.sqrt(variance[row])
        np.maximum(variance - np.square(factors[step], dtype=np.float64), 1e-9, out=variance)
    return scores


def _weighted(gain: Scores, max_gain: float, quality: Scores, request: SelectionRequest) -> Scores:
    return request.diversity_weight * gain + (1 - request.diversity_weight) * max_gain * quality
