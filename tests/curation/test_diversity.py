import math
from itertools import combinations

import numpy as np
import pytest
from pydantic import ValidationError

from curation.diversity import DiversitySettings, choose_diverse
from curation.embedding import Vectors


def _vectors(rows: int, dimensions: int, seed: int) -> Vectors:
    found = np.random.default_rng(seed).normal(size=(rows, dimensions))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def _coverage(vectors: Vectors, chosen: list[int]) -> float:
    return float(np.maximum(vectors @ vectors[chosen].T, 0).max(1).sum())


def _chosen(gains: np.ndarray) -> list[int]:
    return np.flatnonzero(~np.isnan(gains)).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_covers_at_least_its_share_of_the_best_one(seed: int) -> None:
    vectors = _vectors(10, 3, seed)
    best = max(_coverage(vectors, list(some)) for some in combinations(range(10), 3))
    found = _coverage(vectors, _chosen(choose_diverse(vectors, 3)))
    assert (1 - 1 / math.e) * best <= found <= best + 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_the_lazy_choice_is_the_greedy_one(seed: int) -> None:
    vectors = _vectors(60, 5, seed)
    chosen: list[int] = []
    for _ in range(12):
        chosen.append(
            max((row for row in range(60) if row not in chosen), key=lambda row: _coverage(vectors, [*chosen, row]))
        )
    assert _chosen(choose_diverse(vectors, 12)) == sorted(chosen)


def test_gains_add_up_to_what_is_covered() -> None:
    vectors = _vectors(80, 4, seed=9)
    gains = choose_diverse(vectors, 20)
    assert np.nansum(gains) == pytest.approx(_coverage(vectors, _chosen(gains)), rel=1e-4)
    assert (gains[~np.isnan(gains)] >= 0).all()


def test_of_three_groups_each_gives_one() -> None:
    groups = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 1, 2]]
    gains = choose_diverse(groups, 3)
    assert sorted(int(groups[row].argmax()) for row in _chosen(gains)) == [0, 1, 2]
    assert sorted(gains[~np.isnan(gains)].tolist()) == [1, 2, 4]


@pytest.mark.parametrize("keep", [0, 1, 7, 20])
def test_exactly_as_many_are_chosen_as_asked(keep: int) -> None:
    assert len(_chosen(choose_diverse(_vectors(20, 3, 1), keep))) == keep


def test_every_block_of_a_long_table_gives_its_exact_share() -> None:
    gains = choose_diverse(_vectors(4096 + 1024, 4, seed=2), 50)
    assert len(_chosen(gains[:4096])) == 40
    assert len(_chosen(gains[4096:])) == 10


def test_copies_of_one_vector_can_all_be_chosen() -> None:
    gains = choose_diverse(np.ones((5, 1), np.float32), 5)
    assert sorted(gains.tolist()) == [0, 0, 0, 0, 5]


def test_nothing_to_choose_from_gives_nothing() -> None:
    assert len(choose_diverse(np.zeros((0, 4), np.float32), 0)) == 0


@pytest.mark.parametrize("wrong", [{"keep_fraction": 0}, {"keep_fraction": 1.1}, {"keep": 5}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DiversitySettings.model_validate(wrong)
