"""Metrics of embeddings: precision and recall, dispersion."""

import numpy as np
import pytest

from curation.embeddings.base import l2_normalize
from curation.metrics.embedding import DISPERSION_METRICS, PRDC_METRICS, embedding_dispersion, prdc, vendi_score
from curation.metrics.settings import METRICS


def _cloud(count: int, center: float, seed: int) -> np.ndarray:
    return l2_normalize(np.random.default_rng(seed).normal(0, 0.3, (count, 8)) + np.eye(8)[0] * center)


def _by_name(human: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    return {one.metric: one.value for one in prdc(human, synthetic, 0)}


def test_the_same_cloud_is_covered_and_another_is_not() -> None:
    same = _by_name(_cloud(300, 1, 0), _cloud(300, 1, 1))
    assert all(value > 0.85 for value in same.values())
    other = _by_name(_cloud(300, 1, 0), _cloud(300, -1, 1))
    assert all(value < 0.05 for value in other.values())


def test_a_model_that_repeats_one_text_has_precision_1_and_recall_near_0() -> None:
    found = _by_name(_cloud(300, 1, 0), _cloud(300, 1, 0)[:1].repeat(300, 0))
    assert found["embedding_precision"] == 1
    assert found["embedding_recall"] < 0.05
    assert found["embedding_coverage"] < 0.1


def test_one_text_that_is_unlike_all_others_does_not_cover_everything() -> None:
    synthetic = np.concatenate([_cloud(99, 1, 1), -np.eye(8, dtype=np.float32)[:1]])
    human = np.concatenate([_cloud(200, 1, 0), _cloud(200, -1, 2)])
    assert _by_name(human, synthetic)["embedding_recall"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("human", "synthetic"), [(0, 5), (5, 0), (1, 5), (5, 1), (0, 0)])
def test_fewer_than_two_vectors_have_zero_in_every_metric(human: int, synthetic: int) -> None:
    assert set(_by_name(_cloud(human, 1, 0), _cloud(synthetic, 1, 1)).values()) == {0.0}


def test_the_names_are_published() -> None:
    assert set(PRDC_METRICS) <= set(METRICS)
    one = prdc(_cloud(40, 1, 0), _cloud(30, 1, 1), 0)[0]
    assert one.sample_size == 30
    assert one.low is not None and one.high is not None and one.low <= one.value <= one.high


def test_vectors_count_as_many_as_they_are_different() -> None:
    eye = np.eye(5, dtype=np.float32)
    assert vendi_score(eye) == pytest.approx(5)
    assert vendi_score(eye[[0, 0, 0]]) == pytest.approx(1)
    assert vendi_score(eye[[0, 0, 1, 1]]) == pytest.approx(2)
    assert vendi_score(eye[:0]) == 0


def test_the_small_matrix_gives_what_the_large_one_gives() -> None:
    vectors = l2_normalize(np.random.default_rng(0).normal(size=(5000, 12)).astype(np.float32))[::20]
    values = np.linalg.eigvalsh((vectors @ vectors.T).astype(np.float64) / len(vectors))
    values = values[values > 1e-9]
    assert vendi_score(vectors) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-4)


def test_dispersion_metrics_have_their_names_and_stay_finite() -> None:
    human = l2_normalize(np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32))
    for count in (0, 1, 2, 5, 60):
        found = embedding_dispersion(human, human[:count], 0)
        assert tuple(one.metric for one in found) == DISPERSION_METRICS
        assert set(DISPERSION_METRICS) <= set(METRICS)
        assert all(np.isfinite(one.value) for one in found)
    assert {one.metric: one.value for one in embedding_dispersion(human[:0], human, 0)}["mode_separation"] == 0


def test_the_same_text_again_and_again_has_no_spread() -> None:
    human = l2_normalize(np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32))
    found = {one.metric: one for one in embedding_dispersion(human, human[:1].repeat(40, 0), 0)}
    assert found["vendi"].value == pytest.approx(1)
    assert found["embedding_trace"].value == pytest.approx(0, abs=1e-6)
    assert found["self_similarity"].value == pytest.approx(1)
    whole = {one.metric: one for one in embedding_dispersion(human, human, 0)}
    assert whole["vendi"].value == pytest.approx(vendi_score(human))
    assert whole["vendi"].low is not None and whole["vendi"].low < whole["vendi"].value < (whole["vendi"].high or 0)


def test_what_lies_between_the_modes_belongs_to_none() -> None:
    modes = np.eye(8, dtype=np.float32)[:4].repeat(30, 0)
    between = l2_normalize(np.ones((50, 8), np.float32))
    apart = {one.metric: one.value for one in embedding_dispersion(modes, modes, 0)}["mode_separation"]
    assert apart > 5 * abs(
        {one.metric: one.value for one in embedding_dispersion(modes, between, 0)}["mode_separation"]
    )
