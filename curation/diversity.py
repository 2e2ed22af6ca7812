"""Choose a spread-out subset, and say what each pick added.

Facility location: the chosen rows should leave every row with a near representative. Lazy greedy reaches at
least 1 - 1/e of the best sum (Nemhauser, Wolsey & Fisher 1978) and needs one similarity matrix, so long
tables are chosen from in blocks of 4,096 rows, each with its exact share.
"""

import heapq

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.embedding import Vectors

_BLOCK = 4096


class DiversitySettings(BaseModel):
    """`[curate.diversity]`: how much of what is left to keep."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_fraction: float = Field(
        0.9, gt=0, le=1, description="share of the records that reach this sieve that it keeps"
    )


def choose_diverse(vectors: Vectors, keep: int) -> NDArray[np.float64]:
    """Gain of each row when it was chosen, shape (rows,); NaN for the rows that were not among the `keep`."""
    gains = np.full(len(vectors), np.nan)
    starts = range(0, len(vectors), _BLOCK)
    for start in starts:
        block = vectors[start : start + _BLOCK]
        share = keep * (start + len(block)) // len(vectors) - keep * start // len(vectors)
        gains[start : start + len(block)] = _facility_location(block, share)
    return gains


def _facility_location(vectors: Vectors, keep: int) -> NDArray[np.float64]:
    gains = np.full(len(vectors), np.nan)
    similar = np.maximum(vectors @ vectors.T, 0)
    covered = np.zeros(len(vectors), np.float32)
    queue = [(-float(total), row) for row, total in enumerate(similar.sum(0))]
    heapq.heapify(queue)
    chosen = 0
    while chosen < keep:
        _, row = heapq.heappop(queue)
        gain = float(np.maximum(similar[row] - covered, 0).sum())
        if queue and gain < -queue[0][0]:
            heapq.heappush(queue, (-gain, row))
            continue
        gains[row] = gain
        covered = np.maximum(covered, similar[row])
        chosen += 1
    return gains
