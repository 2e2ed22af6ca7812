import numpy as np

from curation.embeddings.base import Vectors, l2_normalize
from curation.embeddings.kmeans import fit_kmeans, nearest_clusters


def _clouds(rows: int, seed: int) -> Vectors:
    dice = np.random.default_rng(seed)
    return l2_normalize((np.eye(8)[np.arange(rows) % 8] + dice.normal(scale=0.05, size=(rows, 8))).astype(np.float32))


def test_a_cell_holds_one_cloud_where_there_are_as_many_cells_as_clouds_and_more() -> None:
    vectors = _clouds(400, 0)
    cells = nearest_clusters(vectors, fit_kmeans(vectors, 24))[:, 0]
    assert all(len(set((np.flatnonzero(cells == cell) % 8).tolist())) == 1 for cell in set(cells.tolist()))


def test_cells_are_the_same_for_the_same_vectors_and_have_length_1() -> None:
    vectors = _clouds(300, 1)
    first, second = fit_kmeans(vectors, 9), fit_kmeans(vectors, 9)
    assert (first == second).all()
    assert np.abs(np.linalg.norm(first, axis=1) - 1).max() < 1e-5


def test_the_nearest_cells_are_those_of_comparing_all() -> None:
    dice = np.random.default_rng(2)
    vectors, centres = (l2_normalize(dice.normal(size=(rows, 5)).astype(np.float32)) for rows in (200, 11))
    expected = np.argsort(-(vectors @ centres.T), axis=1)[:, :4]
    assert (nearest_clusters(vectors, centres, 4) == expected).all()
    assert nearest_clusters(vectors, centres, 50).shape == (200, 11)


def test_there_are_no_more_cells_than_vectors() -> None:
    assert len(fit_kmeans(_clouds(3, 0), 10)) == 3
