import numpy as np
import pytest
from pydantic import ValidationError

from curation.dedup.semantic import SemanticSettings, find_semantic_duplicates
from curation.embeddings.base import Vectors


def _unit(rows: list[list[float]]) -> Vectors:
    vectors = np.array(rows, np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _clustered(rows: int, seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(rows // 4, 6))
    return _unit((centers[rng.integers(0, len(centers), rows)] + rng.normal(scale=0.2, size=(rows, 6))).tolist())


def _compared_with_every_pair(vectors: Vectors, reference: Vectors, threshold: float) -> list[int]:
    all_vectors = [*reference, *vectors]
    kept, expected = list(range(len(reference))), []
    for row in range(len(reference), len(all_vectors)):
        best = max(kept, key=lambda other, row=row: (float(all_vectors[row] @ all_vectors[other]), -other), default=-1)
        expected.append(best if best >= 0 and float(all_vectors[row] @ all_vectors[best]) >= threshold else -1)
        if expected[-1] < 0:
            kept.append(row)
    return expected


@pytest.mark.slow
def test_matches_equal_those_of_comparing_every_pair_across_blocks() -> None:
    vectors, reference = _clustered(1300, seed=0), _clustered(40, seed=1)
    expected = _compared_with_every_pair(vectors, reference, 0.95)
    found = find_semantic_duplicates(vectors, reference, SemanticSettings(threshold=0.95))
    assert found.duplicate_of.tolist() == expected
    assert any(row >= 40 + 1024 for row in expected)
    assert any(0 <= row < 40 for row in expected)
    assert 100 < (~found.kept).sum() < 1200


def test_four_directions_by_eye() -> None:
    vectors = _unit([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    found = find_semantic_duplicates(vectors, vectors[:0], SemanticSettings(threshold=0.9))
    assert found.duplicate_of.tolist() == [-1, 0, -1, 2]
    assert found.similarity[1] == pytest.approx(1 / np.sqrt(1.01), abs=1e-6)
    assert np.isnan(found.similarity[0])
    assert np.isnan(found.estimated).all()


def test_a_vector_is_never_a_duplicate_of_a_dropped_vector() -> None:
    degrees = np.radians([0, 20, 40])
    vectors = _unit([[np.cos(angle), np.sin(angle)] for angle in degrees])
    found = find_semantic_duplicates(vectors, vectors[:0], SemanticSettings(threshold=0.9))
    assert found.duplicate_of.tolist() == [-1, 0, -1]
    assert found.similarity[2] == pytest.approx(np.cos(np.radians(40)), abs=1e-6)


def test_reference_vectors_come_before_the_vectors() -> None:
    vectors = _unit([[1, 0], [1, 0]])
    found = find_semantic_duplicates(vectors, _unit([[0, 1], [1, 0]]), SemanticSettings())
    assert found.duplicate_of.tolist() == [1, 1]


def test_opposite_vectors_are_not_duplicates() -> None:
    vectors = _unit([[1, 0], [-1, 0]])
    found = find_semantic_duplicates(vectors, vectors[:0], SemanticSettings())
    assert found.kept.all()
    assert found.similarity[1] == -1


def test_no_vectors_give_no_matches() -> None:
    assert (
        len(find_semantic_duplicates(np.zeros((0, 4), np.float32), _unit([[1, 0, 0, 0]]), SemanticSettings()).kept) == 0
    )


def test_a_vector_equals_itself_at_threshold_1_despite_rounding() -> None:
    vectors = np.repeat(np.random.default_rng(0).normal(size=(700, 384)), 2, axis=0)
    vectors = _unit(vectors.tolist())
    for brute_force_below in (0, 5000):
        settings = SemanticSettings(threshold=1, brute_force_below=brute_force_below)
        found = find_semantic_duplicates(vectors, vectors[:0], settings)
        assert found.duplicate_of.tolist() == [-1 if row % 2 == 0 else row - 1 for row in range(1400)]
        assert np.nanmax(found.similarity) <= 1


@pytest.mark.parametrize("probes", [4, 1000])
def test_an_inverted_file_finds_nearly_all_and_all_when_every_cluster_is_probed(probes: int) -> None:
    vectors, reference = _clustered(1300, seed=2), _clustered(900, seed=3)
    exact = find_semantic_duplicates(vectors, reference, SemanticSettings(threshold=0.95))
    inverted = SemanticSettings(threshold=0.95, brute_force_below=100, n_probe=probes)
    found = find_semantic_duplicates(vectors, reference, inverted)
    assert (found.kept == exact.kept).mean() > 0.98
    known = np.concatenate([reference, vectors])
    dropped = np.flatnonzero(~found.kept)
    assert np.allclose(
        (vectors[dropped] * known[found.duplicate_of[dropped]]).sum(1), found.similarity[dropped], atol=1e-5
    )
    assert (found.similarity[dropped] > 0.95 - 1e-5).all()
    if probes == 1000:
        assert found.duplicate_of.tolist() == exact.duplicate_of.tolist()


@pytest.mark.parametrize("wrong", [{"threshold": 0}, {"threshold": 1.01}, {"distance": 0.1}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SemanticSettings.model_validate(wrong)
