import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from tasks.backends import GaussianMixtureTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob
from tasks.backends.toy.gaussian_mixture import sample, score, train
from tasks.backends.toy.points import format_points, points_of
from tests.support.progress import ignore_progress


def _learned(folder: Path, texts: list[str], components: int, ancestor: Path | None = None) -> Path:
    folder.mkdir()
    settings = GaussianMixtureTraining(num_components=components)
    corpus = TrainingCorpus(texts[:1], texts[1:])
    train(TrainJob(settings=settings, corpus=corpus, gen0_model=ancestor, folder=folder, seed=0), ignore_progress)
    return folder


def _generated(model: Path, count: int, temperature: float = 1.0) -> list[str]:
    sampling = Sampling(sampler="gaussian-mixture", temperature=temperature)
    prompts = [Prompt("", seed) for seed in range(count)]
    return [one.text for batch in sample(sampling, Resources(), model, prompts, ignore_progress) for one in batch]


@pytest.fixture
def two_heaps(tmp_path: Path) -> Path:
    """A model of two heaps of numbers, about -4 and 4, the second twice as large and twice as wide."""
    rng = np.random.default_rng(0)
    heaps = np.concatenate([rng.normal(-4, 0.5, 1000), rng.normal(4, 1, 2000)])
    return _learned(tmp_path / "model", format_points(heaps[:, None], 3), 2)


def test_what_is_drawn_lies_as_what_was_learned(two_heaps: Path) -> None:
    drawn = points_of(_generated(two_heaps, 4000))[:, 0]
    low, high = drawn[drawn < 0], drawn[drawn > 0]
    # Within four standard errors.
    assert len(low) / 4000 == pytest.approx(1 / 3, abs=0.03)
    assert low.mean() == pytest.approx(-4, abs=0.06 + 0.06)
    assert low.std() == pytest.approx(0.5, abs=0.08)
    assert high.std() == pytest.approx(1, abs=0.12)


def test_a_temperature_multiplies_the_variances_and_leaves_the_weights(two_heaps: Path) -> None:
    plain, cold = (points_of(_generated(two_heaps, 500, temperature))[:, 0] for temperature in (1.0, 0.25))
    assert ((plain < 0) == (cold < 0)).all()
    for heap in (plain < 0, plain > 0):
        assert cold[heap].std() == pytest.approx(plain[heap].std() / 2, rel=0.01)


@pytest.mark.processes
def test_the_likelihood_is_that_of_all_numbers_written_alike(tmp_path: Path) -> None:
    texts = format_points(np.random.default_rng(1).normal(0, 2, (400, 1)), 2)
    model = _learned(tmp_path / "model", texts, 1)
    points = points_of(texts)[:, 0]
    one, hot = score(model, ["1.25"], (1.0, 4.0), ignore_progress)[0].nll
    for cost, spread in ((one, points.std()), (hot, 2 * points.std())):
        cell = norm.cdf(1.255, points.mean(), spread) - norm.cdf(1.245, points.mean(), spread)
        assert cost == pytest.approx(-math.log(cell), abs=1e-3)


@pytest.mark.processes
def test_points_that_have_all_become_one_are_trained_sampled_and_scored_with_finite_numbers(tmp_path: Path) -> None:
    first = _learned(tmp_path / "first", ["1.25 -3.50", "1.00 2.00"], 1)
    model = _learned(tmp_path / "last", ["1.25 -3.50"] * 50, 2, first)
    assert set(_generated(model, 20)) <= {f"{x:.2f} {y:.2f}" for x in (1.24, 1.25, 1.26) for y in (-3.51, -3.5, -3.49)}
    nats = [score(model, [text], (1.0,), ignore_progress)[0].nll[0] for text in ("1.25 -3.50", "1.00 2.00")]
    assert np.isfinite(nats).all()
    assert nats[0] < nats[1]


def test_fewer_points_than_gaussians_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs 3 points, but the corpus has 2\. Lower train\.num_components"):
        _learned(tmp_path / "model", ["1 2", "2 1"], 3)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a model of points\. Expected mixture\.json"):
        score(tmp_path, ["1 2"], (1.0,), ignore_progress)
