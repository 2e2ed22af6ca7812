import numpy as np

from curation.embeddings.base import Vectors, l2_normalize
from curation.embeddings.kmeans import fit_kmeans, nearest_clusters


def _clouds(rows: int, seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    return l2_normalize((np.eye(8)[np.arange(rows) % 8] + rng.normal(scale=0.05, size=(rows, 8))).astype(np.float32))


def test_a_cluster_holds_one_cloud_where_clusters_outnumber_clouds() -> None:
    vectors = _clouds(400, 0)
    clusters = nearest_clusters(vectors, fit_kmeans(vectors, 24))[:, 0]
    assert all(len(set((np.flatnonzero(clusters == cluster) % 8).tolist())) == 1 for cluster in set(clusters.tolist()))


def test_clusters_are_the_same_for_the_same_vectors_and_have_length_1() -> None:
    vectors = _clouds(300, 1)
    first, second = fit_kmeans(vectors, 9), fit_kmeans(vectors, 9)
    assert (first == second).all()
    assert np.abs(np.linalg.norm(first, axis=1) - 1).max() < 1e-5


def test_the_nearest_clusters_are_those_of_comparing_all() -> None:
    rng = np.random.default_rng(2)
    vectors, centers = (l2_normalize(rng.normal(size=(rows, 5)).astype(np.float32)) for rows in (200, 11))
    expected = np.argsort(-(vectors @ centers.T), axis=1)[:, :4]
    assert (nearest_clusters(vectors, centers, 4) == expected).all()
    assert nearest_clusters(vectors, centers, 50).shape == (200, 11)


def test_there_are_no_more_clusters_than_vectors() -> None:
    assert len(fit_kmeans(_clouds(3, 0), 10)) == 3
