"""How human text and what is said lie among each other as vectors: which of either has no neighbour on the other side.

Cosine distance. A neighbourhood of a vector reaches to its 5th nearest of the same side; the widest twentieth of either side's does
not count. Quadratic, so on samples.
Kynkäänniemi et al. 2019 (arXiv:1904.06991) for precision and recall, Naeem et al. 2020 (arXiv:2002.09797) for the others.
"""

import numpy as np

from curation.embedding import Vectors
from curation.intervals import bootstrap
from curation.metrics import Measured

_NEIGHBOURS = 5
_TRUSTED = 0.95
"""Share of each side's neighbourhoods that count, the closest: that of an outlier would take in everything."""
NAMES = ("embedding_precision", "embedding_recall", "embedding_density", "embedding_coverage")


def neighbourhoods(human: Vectors, said: Vectors, seed: int) -> list[Measured]:
    """Precision, recall, density and coverage with 95 % intervals; 0 where either side has fewer than two texts.

    embedding_precision: share of what is said that lies in some human neighbourhood.
    embedding_recall: share of human text that lies in some neighbourhood of what is said.
    embedding_density: how many human neighbourhoods a text that is said lies in, over k.
    embedding_coverage: share of human neighbourhoods in which something said lies.
    """
    if min(len(human), len(said)) < 2:
        return [Measured(name, 0.0, None, None, len(said)) for name in NAMES]
    # Vectors of length 1: the distance falls as the dot product grows, so only the latter is needed.
    between, near = human @ said.T, min(_NEIGHBOURS, len(human) - 1, len(said) - 1)
    reach_human, reach_said = (_reach(vectors, near)[:, None] for vectors in (human, said))
    inside_human, inside_said = np.greater_equal(between, reach_human), np.greater_equal(between.T, reach_said)
    rows = (inside_human.any(0), inside_said.any(0), inside_human.sum(0) / near, inside_human.any(1))
    return [
        Measured(name, float(row.mean()), *bootstrap(row.astype(np.float64), seed), len(said))
        for name, row in zip(NAMES, rows, strict=True)
    ]


def _reach(vectors: Vectors, near: int) -> np.ndarray:
    """Dot product with the k-th nearest other vector, less what rounding may cost a twin; infinite where it is an outlier's."""
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    reach = np.partition(products, -near, axis=1)[:, -near]
    return np.where(reach < np.quantile(reach, 1 - _TRUSTED), np.inf, reach - 1e-6)
