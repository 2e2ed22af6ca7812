import math
from itertools import combinations

import numpy as np
import pytest
from pydantic import ValidationError

from curation.embeddings.base import Vectors, l2_normalize
from curation.selection.diversity import DiversitySettings
from curation.selection.diversity import select_diverse as choose


def _vectors(rows: int, dimensions: int, seed: int) -> Vectors:
    found = np.random.default_rng(seed).normal(size=(rows, dimensions))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def select_diverse(vectors: Vectors, keep: int) -> np.ndarray:
    share = keep / len(vectors) if keep else 1e-9
    return choose(vectors, DiversitySettings(keep_fraction=share, strata="none"))


def _coverage(vectors: Vectors, chosen: list[int]) -> float:
    return float(np.maximum(vectors @ vectors[chosen].T, 0).max(1).sum())


def _chosen(gains: np.ndarray) -> list[int]:
    return np.flatnonzero(~np.isnan(gains)).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_covers_at_least_its_share_of_the_best_one(seed: int) -> None:
    vectors = _vectors(10, 3, seed)
    best = max(_coverage(vectors, list(some)) for some in combinations(range(10), 3))
    found = _coverage(vectors, _chosen(select_diverse(vectors, 3)))
    assert (1 - 1 / math.e) * best <= found <= best + 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_the_lazy_choice_is_the_greedy_one(seed: int) -> None:
    vectors = _vectors(60, 5, seed)
    chosen: list[int] = []
    for _ in range(12):
        chosen.append(
            max((row for row in range(60) if row not in chosen), key=lambda row: _coverage(vectors, [*chosen, row]))
        )
    assert _chosen(select_diverse(vectors, 12)) == sorted(chosen)


def test_gains_add_up_to_what_is_covered() -> None:
    vectors = _vectors(80, 4, seed=9)
    gains = select_diverse(vectors, 20)
    assert np.nansum(gains) == pytest.approx(_coverage(vectors, _chosen(gains)), rel=1e-4)
    assert (gains[~np.isnan(gains)] >= 0).all()


def test_of_three_groups_each_gives_one() -> None:
    groups = np.eye(3, dtype=np.float32)[[0, 0, 0, 0, 1, 1, 2]]
    gains = select_diverse(groups, 3)
    assert sorted(int(groups[row].argmax()) for row in _chosen(gains)) == [0, 1, 2]
    assert sorted(gains[~np.isnan(gains)].tolist()) == [1, 2, 4]


@pytest.mark.parametrize("keep", [0, 1, 7, 20])
def test_exactly_as_many_are_chosen_as_asked(keep: int) -> None:
    assert len(_chosen(select_diverse(_vectors(20, 3, 1), keep))) == keep


def test_every_block_of_a_long_table_gives_its_exact_share() -> None:
    gains = select_diverse(_vectors(4096 + 1024, 4, seed=2), 50)
    assert len(_chosen(gains[:4096])) == 40
    assert len(_chosen(gains[4096:])) == 10


def test_copies_of_one_vector_can_all_be_chosen() -> None:
    gains = select_diverse(np.ones((5, 1), np.float32), 5)
    assert sorted(gains.tolist()) == [0, 0, 0, 0, 5]


def test_nothing_to_choose_from_gives_nothing() -> None:
    assert len(choose(np.zeros((0, 4), np.float32), DiversitySettings())) == 0


@pytest.mark.parametrize("method", ["facility-location", "k-center", "dpp"])
def test_no_source_loses_more_than_its_share(method: str) -> None:
    sources = np.array(["letters"] * 880 + ["poems"] * 100 + ["laws"] * 10 + ["jokes"] * 9 + ["runes"])
    rng = np.random.default_rng(3)
    order = rng.permutation(1000)
    settings = DiversitySettings(method=method, strata="source", keep_fraction=0.3, block_size=128)
    scores = choose(_vectors(1000, 6, 3), settings, sources[order])
    kept = dict(zip(*np.unique(sources[order][_chosen(scores)], return_counts=True), strict=True))
    assert {str(name): int(count) for name, count in kept.items()} == {
        "letters": 264,
        "poems": 30,
        "laws": 3,
        "jokes": 3,
    }


def test_cells_protect_a_tail_that_a_free_choice_thins_out() -> None:
    rng = np.random.default_rng(4)
    centers = np.eye(12)[np.repeat(np.arange(12), [2000, *[60] * 11])]
    vectors = l2_normalize((centers + rng.normal(scale=0.12, size=centers.shape)).astype(np.float32))
    tail = np.arange(len(vectors)) >= 2000
    settings = DiversitySettings(keep_fraction=0.2)
    kept = ~np.isnan(choose(vectors, settings))
    assert kept.sum() == round(0.2 * len(vectors))
    assert (kept & tail).sum() == pytest.approx(0.2 * tail.sum(), abs=20)


def test_more_weight_on_diversity_gives_less_quality_and_more_coverage() -> None:
    vectors, quality = _vectors(600, 8, 5), np.random.default_rng(5).normal(size=600)
    found = []
    for weight in (0.0, 0.5, 1.0):
        settings = DiversitySettings(keep_fraction=0.1, diversity_weight=weight, strata="none")
        found.append(_chosen(choose(vectors, settings, quality=quality)))
    means, covered = [quality[some].mean() for some in found], [_coverage(vectors, some) for some in found]
    assert means == sorted(means, reverse=True)
    assert covered == sorted(covered)
    assert set(found[0]) == set(np.argsort(-quality)[:60].tolist())


def test_quality_counts_by_rank_alone() -> None:
    vectors, quality = _vectors(200, 4, 6), np.random.default_rng(6).normal(size=200)
    settings = DiversitySettings(keep_fraction=0.2, diversity_weight=0.4)
    assert _chosen(choose(vectors, settings, quality=quality)) == _chosen(
        choose(vectors, settings, quality=np.exp(9 * quality))
    )


def test_quality_or_sources_that_are_asked_for_and_not_there_are_refused() -> None:
    vectors = _vectors(4, 3, 0)
    with pytest.raises(ValueError, match=r"diversity_weight` is 0.5 .* no record has one"):
        choose(vectors, DiversitySettings(diversity_weight=0.5))
    with pytest.raises(ValueError, match="1 of 4 records have none"):
        choose(vectors, DiversitySettings(diversity_weight=0.5), quality=np.array([1, np.nan, 0, 0]))
    with pytest.raises(ValueError, match="the records have no sources"):
        choose(vectors, DiversitySettings(strata="source"))


@pytest.mark.parametrize("method", ["facility-location", "k-center", "dpp"])
def test_the_same_vectors_give_the_same_choice(method: str) -> None:
    vectors, settings = _vectors(1500, 8, 7), DiversitySettings(method=method, keep_fraction=0.2, block_size=700)
    assert np.array_equal(choose(vectors, settings), choose(vectors, settings), equal_nan=True)


@pytest.mark.parametrize(
    "wrong", [{"keep_fraction": 0}, {"keep_fraction": 1.1}, {"keep": 5}, {"method": "luck"}, {"diversity_weight": 2}]
)
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DiversitySettings.model_validate(wrong)
