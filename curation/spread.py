"""How spread out vectors are, and how well some of them stand for all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.embedding import Vectors

_BLOCK = 4096


@dataclass(frozen=True)
class Coverage:
    """Cosine similarity of every row to the nearest chosen one."""

    mean: float
    least: float
    location: float
    """Sum of it where it is above 0: what facility location maximises."""


def vendi_score(vectors: Vectors) -> float:
    """How many different vectors these amount to, from 1 to their number.

    The exponential of the entropy of the eigenvalues of X X^T / n (Friedman & Dieng 2023), which are those of
    X^T X / n as long as rows have length 1: linear in the rows. 0 for no rows.
    """
    if not len(vectors):
        return 0.0
    gram = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        gram += block.T @ block
    values = np.linalg.eigvalsh(gram / len(vectors))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def coverage(vectors: Vectors, chosen: NDArray[np.int64]) -> Coverage:
    """How near each row has a chosen one, of which there is at least one."""
    nearest = np.concatenate(
        [
            (vectors[start : start + _BLOCK] @ vectors[chosen].T).max(1).astype(np.float64)
            for start in range(0, len(vectors), _BLOCK)
        ]
    )
    return Coverage(float(nearest.mean()), float(nearest.min()), float(np.maximum(nearest, 0).sum()))
