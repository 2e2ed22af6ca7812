"""Compare human and synthetic text as vectors: precision, recall, density, coverage, dispersion and mode separation.

All distances are cosine distances of vectors of length 1. The cost is quadratic in texts, so metrics use samples.
"""

import numpy as np
from numpy.typing import NDArray

from curation.embeddings.base import Vectors
from curation.embeddings.kmeans import fit_kmeans
from curation.metrics.bootstrap import GROUPS, bootstrap, jackknife
from curation.metrics.settings import Measured

_NEIGHBORS = 5
_USED_NEIGHBORHOODS = 0.95
"""Share of each side's neighborhoods that are used, the smallest ones: that of an outlier would contain everything."""
PRDC_METRICS = ("embedding_precision", "embedding_recall", "embedding_density", "embedding_coverage")


def prdc(human: Vectors, synthetic: Vectors, seed: int) -> list[Measured]:
    """Return precision, recall, density and coverage with 95 % bootstrap intervals; 0 for fewer than two texts.

    The neighborhood of a text is a ball up to its k-th nearest other text of the same side, k = 5. Unlike in the
    papers, the largest 5 % of each side's neighborhoods are ignored.

    - embedding_precision: share of synthetic texts in at least one human neighborhood.
    - embedding_recall: share of human texts in at least one synthetic neighborhood.
    - embedding_density: mean number of human neighborhoods that a synthetic text is in, over k.
    - embedding_coverage: share of human neighborhoods with at least one synthetic text.

    Precision and recall: Kynkäänniemi et al. 2019, arXiv:1904.06991. Density and coverage: Naeem et al. 2020,
    arXiv:2002.09797.
    """
    if min(len(human), len(synthetic)) < 2:
        return [Measured(name, 0.0, None, None, len(synthetic)) for name in PRDC_METRICS]
    # For vectors of length 1 a larger dot product is a smaller distance.
    similarity, k = human @ synthetic.T, min(_NEIGHBORS, len(human) - 1, len(synthetic) - 1)
    in_human = np.greater_equal(similarity, _radius(human, k)[:, None])
    in_synthetic = np.greater_equal(similarity.T, _radius(synthetic, k)[:, None])
    per_text = (in_human.any(0), in_synthetic.any(0), in_human.sum(0) / k, in_human.any(1))
    return [
        Measured(name, float(values.mean()), *bootstrap(values.astype(np.float64), seed), len(synthetic))
        for name, values in zip(PRDC_METRICS, per_text, strict=True)
    ]


def _radius(vectors: Vectors, k: int) -> NDArray[np.float32]:
    """Return the dot product with the k-th nearest other vector, the edge of a neighborhood; infinite for outliers."""
    products = vectors @ vectors.T
    np.fill_diagonal(products, -np.inf)
    edge = np.partition(products, -k, axis=1)[:, -k]
    # Lowered by a rounding error, so that a copy of the k-th neighbor is inside.
    return np.where(edge < np.quantile(edge, 1 - _USED_NEIGHBORHOODS), np.inf, edge - 1e-6)


_BLOCK = 4096
_MODES = 10
DISPERSION_METRICS = ("vendi", "embedding_trace", "self_similarity", "mode_separation")


def vendi_score(vectors: Vectors) -> float:
    """Return the Vendi score: the effective number of different vectors, from 1 to their number; 0 for no rows.

    The exponential of the Shannon entropy of the eigenvalues of X X^T / n for rows of length 1 (Friedman & Dieng 2023,
    arXiv:2210.02410). They equal the nonzero eigenvalues of X^T X / n, whose cost is linear in the rows.
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
    """Return the dispersion of synthetic text and its separation by human modes, with 95 % intervals.

    - vendi: see `vendi_score`.
    - embedding_trace: trace of the covariance matrix, 1 - |mean|^2 for vectors of length 1; 0 to 1.
    - self_similarity: mean cosine similarity of two different texts; 0 for fewer than two.
    - mode_separation: mean difference of the cosine similarities to the nearest and to the second of ten k-means
      centers of human text.
    """
    size = len(synthetic)
    without_group = [np.delete(synthetic, np.s_[group::GROUPS], 0) for group in range(min(GROUPS, size))]
    measured = [Measured("vendi", *_vendi_with_interval(synthetic), size)]
    for name, statistic in (("embedding_trace", _covariance_trace), ("self_similarity", _self_similarity)):
        value = statistic(synthetic)
        low, high = jackknife(value, [statistic(vectors) for vectors in without_group])
        measured.append(Measured(name, value, low, high, size))
    margins = _mode_margins(human, synthetic)
    value = float(margins.mean()) if len(margins) else 0.0
    return [*measured, Measured("mode_separation", value, *bootstrap(margins, seed), size)]


def _vendi_with_interval(vectors: Vectors) -> tuple[float, float | None, float | None]:
    """Return the score and its 95 % interval by the infinitesimal jackknife, from each row's influence."""
    if len(vectors) < 2:
        return vendi_score(vectors), None, None
    rows = vectors.astype(np.float64)
    values, axes = np.linalg.eigh(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows)
    nonzero = values > 1e-9 * len(rows)
    values, axes = values[nonzero] / len(rows), axes[:, nonzero]
    projections = axes * np.sqrt(values * len(rows)) if len(rows) < rows.shape[1] else rows @ axes
    entropy = float(-(values * np.log(values)).sum())
    influence = -(np.square(projections) @ np.log(values))
    half_width = 1.96 * float(influence.std(ddof=1)) / np.sqrt(len(rows))
    return float(np.exp(entropy)), float(np.exp(entropy - half_width)), float(np.exp(entropy + half_width))


def _covariance_trace(vectors: Vectors) -> float:
    if not len(vectors):
        return 0.0
    return float(np.square(vectors).sum() / len(vectors) - np.square(vectors.mean(0)).sum())


def _self_similarity(vectors: Vectors) -> float:
    if len(vectors) < 2:
        return 0.0
    # The squared norm of the sum is the sum over all pairs, of which pairs of a vector with itself are taken off.
    pair_sum = np.square(vectors.sum(0, dtype=np.float64)).sum() - np.square(vectors, dtype=np.float64).sum()
    return float(pair_sum / len(vectors) / (len(vectors) - 1))


def _mode_margins(human: Vectors, synthetic: Vectors) -> NDArray[np.float64]:
    if not len(synthetic) or len(human) < 2:
        return np.zeros(len(synthetic))
    similarity = np.sort(synthetic @ fit_kmeans(human, min(_MODES, len(human))).T, axis=1)
    return (similarity[:, -1] - similarity[:, -2]).astype(np.float64)
