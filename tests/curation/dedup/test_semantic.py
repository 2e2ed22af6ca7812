import numpy as np
import pytest
from pydantic import ValidationError

from curation.dedup.semantic import SemanticSettings, borderline_pairs, find_semantic_duplicates
from curation.embeddings.base import Vectors


def _unit(rows: list[list[float]]) -> Vectors:
    vectors = np.array(rows, np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _clustered(rows: int, seed: int) -> Vectors:
    dice = np.random.default_rng(seed)
    centres = dice.normal(size=(rows // 4, 6))
    return _unit((centres[dice.integers(0, len(centres), rows)] + dice.normal(scale=0.2, size=(rows, 6))).tolist())


def _compared_with_every_pair(vectors: Vectors, reference: Vectors, threshold: float) -> list[int]:
    known = [*reference, *vectors]
    stays, keepers = list(range(len(reference))), []
    for row in range(len(reference), len(known)):
        best = max(stays, key=lambda other, row=row: (float(known[row] @ known[other]), -other), default=-1)
        keepers.append(best if best >= 0 and float(known[row] @ known[best]) >= threshold else -1)
        if keepers[-1] < 0:
            stays.append(row)
    return keepers


def test_the_answer_is_that_of_comparing_every_pair_across_blocks() -> None:
    vectors, reference = _clustered(1300, seed=0), _clustered(40, seed=1)
    expected = _compared_with_every_pair(vectors, reference, 0.95)
    found = find_semantic_duplicates(vectors, reference, SemanticSettings(threshold=0.95))
    assert found.duplicate_of.tolist() == expected
    assert any(keeper >= 40 + 1024 for keeper in expected)
    assert any(0 <= keeper < 40 for keeper in expected)
    assert 100 < (~found.kept).sum() < 1200


def test_four_directions_by_eye() -> None:
    vectors = _unit([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    found = find_semantic_duplicates(vectors, vectors[:0], SemanticSettings(threshold=0.9))
    assert found.duplicate_of.tolist() == [-1, 0, -1, 2]
    assert found.similarity[1] == pytest.approx(1 / np.sqrt(1.01), abs=1e-6)
    assert np.isnan(found.similarity[0])
    assert np.isnan(found.estimated).all()


def test_a_vector_never_goes_because_of_one_that_went() -> None:
    degrees = np.radians([0, 20, 40])
    vectors = _unit([[np.cos(angle), np.sin(angle)] for angle in degrees])
    found = find_semantic_duplicates(vectors, vectors[:0], SemanticSettings(threshold=0.9))
    assert found.duplicate_of.tolist() == [-1, 0, -1]
    assert found.similarity[2] == pytest.approx(np.cos(np.radians(40)), abs=1e-6)


def test_the_reference_keeps_before_the_vectors() -> None:
    vectors = _unit([[1, 0], [1, 0]])
    found = find_semantic_duplicates(vectors, _unit([[0, 1], [1, 0]]), SemanticSettings())
    assert found.duplicate_of.tolist() == [1, 1]


def test_opposite_vectors_are_no_duplicates() -> None:
    vectors = _unit([[1, 0], [-1, 0]])
    found = find_semantic_duplicates(vectors, vectors[:0], SemanticSettings())
    assert found.kept.all()
    assert found.similarity[1] == -1


def test_no_vectors_give_no_answer() -> None:
    assert (
        len(find_semantic_duplicates(np.zeros((0, 4), np.float32), _unit([[1, 0, 0, 0]]), SemanticSettings()).kept) == 0
    )


def test_a_vector_equals_itself_at_threshold_1_whatever_the_rounding() -> None:
    vectors = np.repeat(np.random.default_rng(0).normal(size=(700, 384)), 2, axis=0)
    vectors = _unit(vectors.tolist())
    for brute_force_below in (0, 5000):
        settings = SemanticSettings(threshold=1, brute_force_below=brute_force_below)
        found = find_semantic_duplicates(vectors, vectors[:0], settings)
        assert found.duplicate_of.tolist() == [-1 if row % 2 == 0 else row - 1 for row in range(1400)]
        assert np.nanmax(found.similarity) <= 1


@pytest.mark.parametrize("probes", [4, 1000])
def test_cells_find_nearly_all_and_every_cell_finds_all(probes: int) -> None:
    vectors, reference = _clustered(1300, seed=2), _clustered(900, seed=3)
    exact = find_semantic_duplicates(vectors, reference, SemanticSettings(threshold=0.95))
    cells = SemanticSettings(threshold=0.95, brute_force_below=100, n_probe=probes)
    found = find_semantic_duplicates(vectors, reference, cells)
    assert (found.kept == exact.kept).mean() > 0.98
    known = np.concatenate([reference, vectors])
    gone = np.flatnonzero(~found.kept)
    assert np.allclose((vectors[gone] * known[found.duplicate_of[gone]]).sum(1), found.similarity[gone], atol=1e-5)
    assert (found.similarity[gone] > 0.95 - 1e-5).all()
    if probes == 1000:
        assert found.duplicate_of.tolist() == exact.duplicate_of.tolist()


def test_what_goes_on_the_least_evidence_is_shown_first() -> None:
    vectors = _unit([[1, 0], [1, 0.1], [1, 0.02], [0, 1], [0.05, 1]])
    found = find_semantic_duplicates(vectors, vectors[:0], SemanticSettings(threshold=0.9))
    assert borderline_pairs(found).tolist() == [1, 4, 2]
    assert borderline_pairs(found, 1).tolist() == [1]


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"threshold": 1.01}, {"distance": 0.1}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SemanticSettings.model_validate(wrong)
