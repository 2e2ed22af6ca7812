"""Choosing one row after another by what it adds, exactly as the plain greedy rule would, and faster.

What a row adds never grows while others are chosen, so a bound from before is a bound still: a row is looked at
again only when its bound is the highest (Minoux 1978). Each function returns the score of each row when it was
chosen, shape (rows,), NaN where it was not. `quality` is added to what a row adds, weighed against it by `diversity_weight`.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.embeddings.base import Vectors

Scores = NDArray[np.float64]

_BATCH = 128
_TILE = 8192
_RIDGE = 1e-3
_WIDTH = 2.0


@dataclass(frozen=True)
class SelectionRequest:
    """What is asked of a choice."""

    strata: NDArray[np.int64]
    """Stratum of each row, numbered from 0."""
    quotas: NDArray[np.int64]
    """How many rows each stratum gives."""
    quality: Scores
    """Quality of each row, from 0 to 1."""
    diversity_weight: float
    """1 chooses by what a row adds alone, 0 by its merit alone."""


def facility_location(vectors: Vectors, request: SelectionRequest) -> Scores:
    """What is added: how much nearer all rows come to a chosen one, as a sum of cosines (negative ones count 0).

    At least 1 - 1/e of the best sum with one stratum (Nemhauser, Wolsey & Fisher 1978), at least half with more
    (Fisher, Nemhauser & Wolsey 1978). Needs 4 bytes times the square of the rows.
    """
    scores, left = np.full(len(vectors), np.nan), request.quotas.copy()
    similar = vectors @ vectors.T
    np.maximum(similar, 0, out=similar)
    totals = similar.sum(1)
    merit = (1 - request.diversity_weight) * float(totals.max(initial=0)) * request.quality
    covered, room = np.zeros(len(vectors), np.float32), np.empty(len(vectors), np.float32)
    queue = [(-(request.diversity_weight * float(total) + merit[row]), row) for row, total in enumerate(totals)]
    heapq.heapify(queue)
    while left.any():
        _, row = heapq.heappop(queue)
        if not left[request.strata[row]]:
            continue
        np.subtract(similar[row], covered, out=room)
        score = request.diversity_weight * float(np.maximum(room, 0, out=room).sum()) + merit[row]
        if queue and score < -queue[0][0]:
            heapq.heappush(queue, (-score, row))
            continue
        scores[row] = score
        left[request.strata[row]] -= 1
        np.maximum(covered, similar[row], out=covered)
    return scores


def k_center(vectors: Vectors, request: SelectionRequest) -> Scores:
    """What is added: the distance, 1 - cosine, to the nearest chosen row; 2, the largest there is, for the first.

    With one stratum no choice has less than half the largest Euclidean distance left (Gonzalez 1985).
    """
    # By batches: among the highest rows, as long as none outside can be higher, then one product for all of them.
    scores, left = np.full(len(vectors), np.nan), request.quotas.copy()
    adds = np.full(len(vectors), 2.0)
    while left.any():
        score = np.where(
            np.isnan(scores) & (left[request.strata] > 0), _scores(adds, 2, request.quality, request), -np.inf
        )
        order = np.argsort(-score, kind="stable")[: _BATCH + 1]
        some, outside = order[:_BATCH], score[order[-1]] if len(order) > _BATCH else -np.inf
        away = 1 - (vectors[some] @ vectors[some].T).astype(np.float64)
        inside = adds[some]
        chosen: list[int] = []
        while left.any():
            now = np.where(
                np.isnan(scores[some]) & (left[request.strata[some]] > 0),
                _scores(inside, 2, request.quality[some], request),
                -np.inf,
            )
            place = int(now.argmax())
            if (chosen and now[place] <= outside) or now[place] == -np.inf:
                break
            scores[some[place]] = now[place]
            left[request.strata[some[place]]] -= 1
            chosen.append(int(some[place]))
            np.minimum(inside, away[place], out=inside)
        for start in range(0, len(vectors), _TILE):
            part = adds[start : start + _TILE]
            np.minimum(part, 1 - (vectors[start : start + _TILE] @ vectors[chosen].T).max(1), out=part)
    return scores


def dpp(vectors: Vectors, request: SelectionRequest) -> Scores:
    """What is added: the part of a row, from 0 to 1, that the chosen ones do not explain.

    Greedy search for the likeliest set of a determinantal point process (Chen, Zhang & Zhou 2018) with the kernel
    exp(-2 (1 - cosine)). Needs 4 bytes times rows times chosen rows, and time that grows with the square of the latter.
    """
    keep = int(request.quotas.sum())
    scores, left = np.full(len(vectors), np.nan), request.quotas.copy()
    adds = np.full(len(vectors), 1 + _RIDGE)
    factors = np.zeros((keep, len(vectors)), np.float32)
    open_ = np.ones(len(vectors), bool)
    for turn in range(keep):
        score = np.where(open_ & (left[request.strata] > 0), _scores(adds, 1, request.quality, request), -np.inf)
        row = int(score.argmax())
        scores[row], open_[row] = score[row], False
        left[request.strata[row]] -= 1
        kernel = np.exp(-_WIDTH * (1 - vectors @ vectors[row]))
        factors[turn] = (kernel - factors[:turn, row] @ factors[:turn]) / np.sqrt(adds[row])
        np.maximum(adds - np.square(factors[turn], dtype=np.float64), 1e-9, out=adds)
    return scores


def _scores(adds: Scores, top: float, merit: Scores, request: SelectionRequest) -> Scores:
    return request.diversity_weight * adds + (1 - request.diversity_weight) * top * merit
