import numpy as np
import pytest

from curation.embedding import unit
from curation.spread import coverage, vendi_score


def test_vectors_count_as_many_as_they_are_different() -> None:
    eye = np.eye(5, dtype=np.float32)
    assert vendi_score(eye) == pytest.approx(5)
    assert vendi_score(eye[[0, 0, 0]]) == pytest.approx(1)
    assert vendi_score(eye[[0, 0, 1, 1]]) == pytest.approx(2)
    assert vendi_score(eye[:0]) == 0


def test_the_small_matrix_gives_what_the_large_one_gives() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(5000, 12)).astype(np.float32))[::20]
    values = np.linalg.eigvalsh((vectors @ vectors.T).astype(np.float64) / len(vectors))
    values = values[values > 1e-9]
    assert vendi_score(vectors) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-4)


def test_coverage_is_the_similarity_to_the_nearest_chosen() -> None:
    vectors = unit(np.array([[1, 0], [0, 1], [-1, -1]], np.float32))
    found = coverage(vectors, np.array([0]))
    assert (found.mean, found.least, found.location) == pytest.approx(((1 - 2**-0.5) / 3, -(2**-0.5), 1))
