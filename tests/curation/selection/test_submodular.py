import math
from itertools import combinations

import numpy as np
import pytest

from curation.embeddings.base import Vectors, l2_normalize
from curation.selection.submodular import Scores, SelectionRequest, dpp, facility_location, k_center

_ALL = {"facility-location": facility_location, "k-center": k_center, "dpp": dpp}


def _vectors(rows: int, dimensions: int, seed: int) -> Vectors:
    return l2_normalize(np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32))


def _wish(rows: int, keep: int, weight: float = 1.0, seed: int = 0) -> SelectionRequest:
    merit = np.random.default_rng(seed).random(rows)
    return SelectionRequest(np.zeros(rows, np.int64), np.array([keep]), merit, weight)


def _chosen(scores: Scores) -> list[int]:
    return np.flatnonzero(~np.isnan(scores)).tolist()


def _farthest(vectors: Vectors, chosen: list[int]) -> float:
    squares = ((vectors[:, None] - vectors[None, chosen]) ** 2).sum(2)
    return float(np.sqrt(squares.min(1).max()))


@pytest.mark.parametrize("seed", range(8))
def test_k_center_is_within_a_factor_of_two_of_the_best_radius(seed: int) -> None:
    vectors = _vectors(12, 3, seed)
    best = min(_farthest(vectors, list(some)) for some in combinations(range(12), 3))
    assert best <= _farthest(vectors, _chosen(k_center(vectors, _wish(12, 3)))) <= 2 * best + 1e-5


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_batched_k_center_selects_the_same_centers_as_the_sequential_rule(weight: float) -> None:
    vectors, wish = _vectors(900, 6, 1), _wish(900, 300, weight)
    adds, expected = np.full(900, 2.0), []
    for _ in range(300):
        score = weight * adds + (1 - weight) * 2 * wish.quality
        score[expected] = -np.inf
        expected.append(int(score.argmax()))
        adds = np.minimum(adds, 1 - vectors @ vectors[expected[-1]])
    assert _chosen(k_center(vectors, wish)) == sorted(expected)


@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_lazily_chosen_representatives_are_those_of_looking_at_every_row(weight: float) -> None:
    vectors, wish = _vectors(120, 5, 2), _wish(120, 25, weight)
    similar = np.maximum(vectors @ vectors.T, 0).astype(np.float64)
    covered, expected, top = np.zeros(120), [], float(similar.sum(1).max())
    for _ in range(25):
        score = weight * np.maximum(similar - covered, 0).sum(1) + (1 - weight) * top * wish.quality
        score[expected] = -np.inf
        expected.append(int(score.argmax()))
        covered = np.maximum(covered, similar[expected[-1]])
    assert _chosen(facility_location(vectors, wish)) == sorted(expected)


@pytest.mark.parametrize("seed", range(6))
def test_representatives_cover_at_least_their_share_of_the_best(seed: int) -> None:
    vectors = _vectors(10, 3, seed)

    def covered(chosen: list[int]) -> float:
        return float(np.maximum(vectors @ vectors[chosen].T, 0).max(1).sum())

    best = max(covered(list(some)) for some in combinations(range(10), 3))
    assert (1 - 1 / math.e) * best <= covered(_chosen(facility_location(vectors, _wish(10, 3)))) <= best + 1e-5


def test_the_scores_of_a_dpp_multiply_to_its_determinant() -> None:
    vectors = _vectors(60, 4, 3)
    scores = dpp(vectors, _wish(60, 10))
    chosen = _chosen(scores)
    kernel = np.exp(-2 * (1 - (vectors[chosen] @ vectors[chosen].T).astype(np.float64)))
    _, expected = np.linalg.slogdet(kernel + 1e-3 * np.eye(10))
    assert np.log(scores[chosen]).sum() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("method", _ALL)
def test_what_a_row_adds_never_grows(method: str) -> None:
    scores = _ALL[method](_vectors(200, 8, 4), _wish(200, 60))
    steps = [_ALL[method](_vectors(200, 8, 4), _wish(200, keep)) for keep in (10, 30)]
    order = np.argsort(-scores[_chosen(scores)], kind="stable")
    for fewer in steps:
        first = {_chosen(scores)[place] for place in order[: len(_chosen(fewer))].tolist()}
        assert set(_chosen(fewer)) == first


@pytest.mark.parametrize("method", _ALL)
def test_without_weight_the_best_are_chosen(method: str) -> None:
    wish = _wish(300, 40, weight=0.0)
    assert _chosen(_ALL[method](_vectors(300, 8, 5), wish)) == sorted(np.argsort(-wish.quality)[:40].tolist())


@pytest.mark.parametrize("method", _ALL)
def test_quotas_of_strata_are_met_exactly(method: str) -> None:
    strata = np.random.default_rng(6).integers(0, 4, 250)
    quotas = np.array([7, 0, 30, 1])
    scores = _ALL[method](_vectors(250, 8, 6), SelectionRequest(strata, quotas, np.zeros(250), 1.0))
    assert np.bincount(strata[_chosen(scores)], minlength=4).tolist() == quotas.tolist()


@pytest.mark.parametrize("method", _ALL)
def test_every_row_can_be_chosen_and_none(method: str) -> None:
    same = np.ones((150, 1), np.float32)
    assert len(_chosen(_ALL[method](same, _wish(150, 150)))) == 150
    assert _chosen(_ALL[method](same, _wish(150, 0))) == []
    assert len(_ALL[method](same[:0], _wish(0, 0))) == 0
