from pathlib import Path

import numpy as np
import pytest

from tasks.backends import Prompt, Resources, Sampling, TrainingCorpus, TrainingResult, TrainJob, VaeTraining
from tasks.backends.toy.points import format_points, points_of
from tests.support.progress import ignore_progress

pytest.importorskip("torch")

from tasks.backends.toy.vae import sample, score, train


def _learn(folder: Path, texts: list[str], seed: int = 0) -> TrainingResult:
    folder.mkdir(parents=True)
    settings = VaeTraining(latent_size=2, hidden_size=32, max_steps=400, batch_size=64, learning_rate=0.01)
    half = len(texts) // 2
    corpus = TrainingCorpus(texts[:half], texts[half:])
    return train(TrainJob(settings=settings, corpus=corpus, folder=folder, seed=seed), ignore_progress)


def _generated(model: Path, count: int, temperature: float = 1.0) -> np.ndarray:
    sampling, prompts = Sampling(sampler="vae", temperature=temperature), [Prompt("", seed) for seed in range(count)]
    return points_of(
        [one.text for batch in sample(sampling, Resources(), model, prompts, ignore_progress) for one in batch]
    )


def _ring(count: int, seed: int) -> list[str]:
    """Points about a ring of radius 3, whose third number is always 7."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, count), rng.normal(3, 0.1, count)
    return format_points(np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(count, 7.0)], 1), 2)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the ring."""
    folder = tmp_path_factory.mktemp("vae") / "model"
    _learn(folder, _ring(600, 0))
    return folder


def test_what_is_drawn_has_the_spread_of_what_was_learned(ring: Path) -> None:
    drawn, learned = _generated(ring, 600), points_of(_ring(600, 0))
    assert drawn[:, :2].std(0) == pytest.approx(learned[:, :2].std(0), rel=0.25)
    assert np.abs(drawn[:, 2] - 7).max() < 1.5
    assert _generated(ring, 300, 0.1).var() < drawn.var()


def test_unseen_points_of_the_kind_are_likelier_than_others(ring: Path) -> None:
    near, far = (
        np.mean([one.nll[0] for one in score(ring, texts, (1.0,), ignore_progress)])
        for texts in (_ring(100, 1), ["0.00 0.00 7.00", "6.00 6.00 7.00"])
    )
    assert near + 3 < far


def test_a_point_costs_the_same_alone_and_in_company(ring: Path) -> None:
    texts = _ring(300, 2)
    together = score(ring, texts, (1.0, 2.0), ignore_progress)
    assert together[299].tokens == 3
    assert score(ring, texts[299:], (1.0, 2.0), ignore_progress)[0].nll == pytest.approx(together[299].nll, rel=1e-4)


def test_the_same_seed_trains_the_same_weights_and_logs_its_steps(tmp_path: Path) -> None:
    results = [_learn(tmp_path / name, _ring(100, 0), seed) for name, seed in (("one", 1), ("same", 1), ("other", 2))]
    weights = [(tmp_path / name / "vae.safetensors").read_bytes() for name in ("one", "same", "other")]
    assert weights[0] == weights[1] != weights[2]
    assert [point.step for point in results[0].log] == [200, 400]
    assert results[0].tokens == 400 * 64 * 3 == 2 * results[0].human_tokens


def test_points_all_alike_are_learned_with_numbers(tmp_path: Path) -> None:
    _learn(tmp_path / "model", ["3 5 9"] * 10)
    assert np.abs(_generated(tmp_path / "model", 20) - [3, 5, 9]).max() <= 2
    assert np.isfinite(score(tmp_path / "model", ["3 5 9", "0 0 0"], (1.0,), ignore_progress)[1].nll).all()
