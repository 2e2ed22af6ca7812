import numpy as np
import pytest

from curation.embeddings.base import l2_normalize
from curation.metrics.embedding import PRDC_METRICS, prdc
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
