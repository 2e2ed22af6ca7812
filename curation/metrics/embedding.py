"""How human text and what is said lie among each other as vectors: which of either has no neighbour on the other side.

Cosine distance. A neighbourhood of a vector reaches to its 5th nearest of the same side; the widest twentieth of either side's does
not count. Quadratic, so on samples.
Kynkäänniemi et al. 2019 (arXiv:1904.06991) for precision and recall, Naeem et al. 2020 (arXiv:2002.09797) for the others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.embeddings.base import Vectors
from curation.embeddings.kmeans import fit_kmeans
from curation.metrics.bootstrap import GROUPS, bootstrap, jackknife
from curation.metrics.settings import Measured

_NEIGHBOURS = 5


_TRUSTED = 0.95
"""Share of each side's neighbourhoods that count, the closest: that of an outlier would take in everything."""


PRDC_METRICS = ("embedding_precision", "embedding_recall", "embedding_density", "embedding_coverage")


def prdc(human: Vectors, synthetic: Vectors, seed: int) -> list[Measured]:
    """Precision, recall, density and coverage with 95 % intervals; 0 where either side has fewer than two texts.

    embedding_precision: share of what is said that lies in some human neighbourhood.
    embedding_recall: share of human text that lies in some neighbourhood of what is said.
    embedding_density: how many human neighbourhoods a text that is said lies in, over k.
    embedding_coverage: share of human neighbourhoods in which something said lies.
    """
    if min(len(human), len(synthetic)) < 2:
        return [Measured(name, 0.0, None, None, len(synthetic)) for name in PRDC_METRICS]
    # Vectors of length 1: the distance falls as the dot product grows, so only the latter is needed.
    between, near = human @ synthetic.T, min(_NEIGHBOURS, len(human) - 1, len(synthetic) - 1)
    reach_human, reach_said = (_reach(vectors, near)[:, None] for vectors in (human, synthetic))
    inside_human, inside_said = np.greater_equal(between, reach_human), np.greater_equal(between.T, reach_said)
    rows = (inside_human.any(0), inside_said.any(0), inside_human.sum(0) / near, inside_human.any(1))
    return [
        Measured(name, float(row.mean()), *bootstrap(row.astype(np.float64), seed), len(synthetic))
        for name, row in zip(PRDC_METRICS, rows, strict=True)
    ]


def _reach(vectors: Vectors, near: int) -> np.ndarray:
    """Dot product with the k-th nearest other vector, less what rounding may cost a twin; infinite where it is an outlier's."""
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    reach = np.partition(products, -near, axis=1)[:, -near]
    return np.where(reach < np.quantile(reach, 1 - _TRUSTED), np.inf, reach - 1e-6)


_BLOCK = 4096


_MODES = 10


DISPERSION_METRICS = ("vendi", "embedding_trace", "self_similarity", "mode_separation")


@dataclass(frozen=True)
class RepresentationSimilarity:
    """Cosine similarity of every row to the nearest chosen one."""

    mean: float
    minimum: float
    facility_location: float
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


def embedding_dispersion(human: Vectors, synthetic: Vectors, seed: int) -> list[Measured]:
    """How spread out what is said is, and how clearly it belongs to one human mode or another, with 95 % intervals.

    vendi: see `vendi_score`; of a sample of fixed size.
    embedding_trace: sum of the variances, 1 - |mean|^2 for vectors of length 1. 0 to 1.
    self_similarity: mean cosine similarity of two different texts. 0 for fewer than two.
    mode_separation: mean of how much nearer the nearest of ten human k-means centres is than the next one.
    """
    rest = [np.delete(synthetic, np.s_[group::GROUPS], 0) for group in range(min(GROUPS, len(synthetic)))]
    found = [Measured("vendi", *_sure_vendi(synthetic), len(synthetic))]
    for name, of in (("embedding_trace", _trace), ("self_similarity", _similarity)):
        value = of(synthetic)
        found.append(Measured(name, value, *jackknife(value, [of(one) for one in rest]), len(synthetic)))
    apart = _margins(human, synthetic)
    value = float(apart.mean()) if len(apart) else 0.0
    return [*found, Measured("mode_separation", value, *bootstrap(apart, seed), len(synthetic))]


def representation_similarity(vectors: Vectors, chosen: NDArray[np.int64]) -> RepresentationSimilarity:
    """How near each row has a chosen one, of which there is at least one."""
    nearest = np.concatenate(
        [
            (vectors[start : start + _BLOCK] @ vectors[chosen].T).max(1).astype(np.float64)
            for start in range(0, len(vectors), _BLOCK)
        ]
    )
    return RepresentationSimilarity(float(nearest.mean()), float(nearest.min()), float(np.maximum(nearest, 0).sum()))


def _sure_vendi(vectors: Vectors) -> tuple[float, float | None, float | None]:
    """The score and its interval, by the infinitesimal jackknife: what each row adds to the entropy, from one decomposition."""
    if len(vectors) < 2:
        return vendi_score(vectors), None, None
    rows = vectors.astype(np.float64)
    values, axes = np.linalg.eigh(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows)
    there = values > 1e-9 * len(rows)
    values, axes = values[there] / len(rows), axes[:, there]
    along = axes * np.sqrt(values * len(rows)) if len(rows) < rows.shape[1] else rows @ axes
    entropy = float(-(values * np.log(values)).sum())
    each = -(np.square(along) @ np.log(values))
    reach = 1.96 * float(each.std(ddof=1)) / np.sqrt(len(rows))
    return float(np.exp(entropy)), float(np.exp(entropy - reach)), float(np.exp(entropy + reach))


def _trace(vectors: Vectors) -> float:
    if not len(vectors):
        return 0.0
    return float(np.square(vectors).sum() / len(vectors) - np.square(vectors.mean(0)).sum())


def _similarity(vectors: Vectors) -> float:
    if len(vectors) < 2:
        return 0.0
    every = np.square(vectors.sum(0, dtype=np.float64)).sum() - np.square(vectors, dtype=np.float64).sum()
    return float(every / len(vectors) / (len(vectors) - 1))


def _margins(human: Vectors, said: Vectors) -> NDArray[np.float64]:
    if not len(said) or len(human) < 2:
        return np.zeros(len(said))
    near = np.sort(said @ fit_kmeans(human, min(_MODES, len(human))).T, axis=1)
    return (near[:, -1] - near[:, -2]).astype(np.float64)
