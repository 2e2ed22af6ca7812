"""Refit points repeatedly: Gaussian mixtures, and an autoencoder of images of digits.

Shumailov et al. 2024, Nature 631:755, and its supplement: two Gaussians, a thousand samples a generation, no data of
earlier generations: misperceived within 50 generations, points by 2,000; an autoencoder of digits: mixed up by
generation 20. The backends of a run are called directly, since a run evaluates more than these rows need. `heirloom run
points` and `digits` plot them.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from benchmarks.figures import Figure, short
from tasks.backends import GaussianMixtureTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob, VaeTraining
from tasks.backends.toy.points import format_points, points_of
from tests.support.progress import ignore_progress

Points = NDArray[np.float64]
_HUMAN, _DECIMALS = 1000, 6


def mixtures(
    *, points: int = 1000, early: int = 50, late: int = 2000, seeds: Sequence[int] = (0, 1, 2)
) -> Iterator[Figure]:
    """Two Gaussians refitted to their own draws, on a line and in a plane."""
    from tasks.backends.toy import gaussian_mixture

    settings = GaussianMixtureTraining(num_components=2)
    for size in (1, 2):
        drifts, shrunk, kept = [], [], []
        for seed in seeds:
            human = _heaps(size, seed)
            alone = dict(_loop(gaussian_mixture, settings, human, points, late, 0.0, seed, {1, early, late}))
            mixed = dict(_loop(gaussian_mixture, settings, human, points, early, 0.1, seed, {1, early}))
            drifts.append(_apart(human, alone[early]) / _apart(human, alone[1]))
            shrunk.append(_variance(alone[late]) / _variance(human))
            kept.append((_apart(human, mixed[early]), _apart(human, alone[early])))
        name = f"{size}-D, {len(seeds)} seeds"
        yield _at_least(f"{name}: distance to human data, generation {early} / 1, median", drifts, 2, "misperceived")
        yield _at_most(f"{name}: variance, generation {late} / human data, median", shrunk, 0.1, "a point")
        # Of sums, for one seed may drift back by chance.
        with_humans, without = np.sum(kept, 0)
        yield _at_most(f"{name}: distance with a tenth of human points / without", [with_humans / without], 1, "(ours)")


def digits(*, generations: int = 20, seeds: Sequence[int] = (0, 1, 2), steps: int = 2000) -> Iterator[Figure]:
    """An autoencoder of 8 x 8 pictures of digits that learns what the last one drew."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    from tasks.backends.toy import vae

    found = load_digits()
    human, reader = found.data, KNeighborsClassifier(10).fit(found.data, found.target)
    unsure, shrunk, cost, kept = [], [], [], []
    for seed in seeds:
        heldout, learned = _split(human, seed)
        heldout_scores, costs = format_points(heldout, 0), list[float]()
        settings = VaeTraining(max_steps=steps)
        alone = dict(
            _loop(
                vae, settings, learned, len(learned), generations, 0.0, seed, {1, generations}, (heldout_scores, costs)
            )
        )
        mixed = dict(_loop(vae, settings, learned, len(learned), generations, 0.1, seed, {1, generations}))
        sure = {place: float(reader.predict_proba(generated).max(1).mean()) for place, generated in alone.items()}
        unsure.append(sure[generations] / sure[1])
        shrunk.append(_variance(alone[generations]) / _variance(alone[1]))
        cost.append(costs[-1] - costs[0])
        kept.append(_variance(mixed[generations]) / _variance(alone[generations]))
    name = f"{len(seeds)} seeds"
    yield _at_most(
        f"{name}: certainty that a sample is one digit, generation {generations} / 1, median", unsure, 1, "mixed up"
    )
    yield _at_most(f"{name}: variance of samples, generation {generations} / 1, median", shrunk, 1, "(ours)")
    yield _at_least(f"{name}: held-out nats per pixel, generation {generations} less 0, median", cost, 0, "(ours)")
    yield _at_least(f"{name}: variance with a tenth of human images / without, median", kept, 1, "(ours)")


def _loop(  # noqa: PLR0913, PLR0917
    backend: ModuleType,
    settings: Any,  # noqa: ANN401  (settings of any backend)
    human: Points,
    count: int,
    generations: int,
    human_fraction: float,
    seed: int,
    wanted: set[int],
    heldout_scores: tuple[Sequence[str], list[float]] | None = None,
) -> Iterator[tuple[int, Points]]:
    """The draws of the wanted generations; each model learns from the last one's draws and a share of human points."""
    decimals = 0 if human.shape[1] > 2 else _DECIMALS
    sampling, rng = Sampling(sampler=settings.backend), np.random.default_rng(seed)
    people, samples = format_points(human, decimals), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "0"
        for generation in range(generations + 1):
            model = Path(folder) / str(generation)
            model.mkdir()
            again = rng.choice(len(people), round(human_fraction * count), replace=False)
            corpus = (
                TrainingCorpus([people[place] for place in again], samples[len(again) :])
                if samples
                else TrainingCorpus(people, [])
            )
            ancestor = first if generation else None
            job = TrainJob(settings=settings, corpus=corpus, gen0_model=ancestor, folder=model, seed=seed + generation)
            backend.train(job, ignore_progress)
            if heldout_scores is not None and generation in (0, generations):
                scores = backend.score(model, heldout_scores[0], (1.0,), ignore_progress)
                heldout_scores[1].append(float(np.mean([one.nats[0] / one.tokens for one in scores])))
            prompts = [Prompt("", int(one)) for one in rng.integers(2**62, size=count)]
            samples = [
                one.text
                for batch in backend.sample(sampling, Resources(), model, prompts, ignore_progress)
                for one in batch
            ]
            # Samples of this model are the data of the next generation.
            if generation + 1 in wanted:
                yield generation + 1, points_of(samples)


def _heaps(size: int, seed: int) -> Points:
    rng = np.random.default_rng(seed)
    which = rng.random(_HUMAN) < 0.5
    return rng.normal(
        np.where(which, -2, 2)[:, None] * np.eye(size)[0], np.where(which, 0.6, 1)[:, None], (_HUMAN, size)
    )


def _split(human: Points, seed: int) -> tuple[Points, Points]:
    mixed = np.random.default_rng(seed).permutation(human)
    return mixed[:250], mixed[250:]


def _apart(human: Points, generated: Points) -> float:
    """Mean Wasserstein distance along the axes."""
    return float(np.mean([wasserstein_distance(one, other) for one, other in zip(human.T, generated.T, strict=True)]))


def _variance(points: Points) -> float:
    return float(points.var(0).sum())


def _at_most(name: str, values: Sequence[float], most: float, published: str) -> Figure:
    value = float(np.median(values))
    return Figure(name, short(value), "", f"< {most:g}: {published}", value < most)


def _at_least(name: str, values: Sequence[float], least: float, published: str) -> Figure:
    value = float(np.median(values))
    return Figure(name, short(value), "", f"> {least:g}: {published}", value > least)
