"""A mixture of Gaussians, fitted by likelihood to points: the model that the theory of collapse is about.

Temperature multiplies the covariances, which is what it does to a Gaussian alone; the weights stay. A covariance is never
smaller than rounding makes it, so that likelihoods stay finite when all points have become one.
"""

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from heirloom.errors import HeirloomError
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import GaussianMixtureTraining
from tasks.backends.toy.points import (
    Points,
    infer_decimals,
    nll_from_density,
    points_of,
    require_model,
    to_completions,
    training_points,
)
from tasks.backends.types import Completion, Progress, Prompt, Score, TrainingResult, TrainJob

_FILE = "mixture.json"
_STARTS = 3
"""Fits from different beginnings, of which the likeliest is kept."""


def train(job: TrainJob[GaussianMixtureTraining], progress: Progress) -> TrainingResult:
    """Fit the mixture by expectation maximisation.

    Raises:
        HeirloomError: the corpus is empty, holds a text that is no point, or fewer points than the mixture has components.
    """
    settings, corpus = job.settings, job.corpus
    started = time.monotonic()
    points, human = training_points(corpus)
    if len(points) < max(2, settings.num_components):
        raise HeirloomError(
            f"{settings.num_components} Gaussians take {max(2, settings.num_components)} points at least, and the corpus has "
            f"{len(points)}; lower train.num_components, or give it more"
        )
    decimals = _load(job.gen0_model).decimals if job.gen0_model else infer_decimals([*corpus.human, *corpus.synthetic])
    fit = GaussianMixture(
        settings.num_components, reg_covar=0.01**decimals / 12, n_init=_STARTS, random_state=job.seed % 2**32, tol=1e-4
    )
    with warnings.catch_warnings():
        # Fewer distinct points than components, or a fit that goes on: both belong to the end of a collapse.
        warnings.simplefilter("ignore")
        fit.fit(points)
    stored = {"decimals": decimals, "weights": fit.weights_, "means": fit.means_, "covariances": fit.covariances_}
    (job.folder / _FILE).write_text(json.dumps(stored, default=np.ndarray.tolist))
    progress(1, 1)
    return TrainingResult(points.size, human * points.shape[1], fit.n_iter_, time.monotonic() - started, ())


def sample(
    settings: Sampling,
    resources: Resources,  # noqa: ARG001  (every sampler is asked alike)
    model: Path,
    prompts: Sequence[Prompt],
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Draw a point for each prompt by its own seed."""
    mixture = _load(model)

    def drawn(batch: Sequence[Prompt]) -> Points:
        return np.array([mixture.draw(prompt.seed, settings.temperature) for prompt in batch])

    return to_completions(prompts, drawn, lambda points: mixture.nll(points, (1.0,))[:, 0], mixture.decimals, progress)


def score(model: Path, texts: Sequence[str], temperatures: Sequence[float], progress: Progress) -> list[Score]:
    """Log-likelihood of each point at each temperature; its tokens are its numbers."""
    mixture, points = _load(model), points_of(texts)
    nats = mixture.nll(points, temperatures)
    progress(len(texts), len(texts))
    return [Score(points.shape[1], tuple(row)) for row in nats.tolist()]


@dataclass(frozen=True)
class _Mixture:
    decimals: int
    weights: Points
    means: Points
    """Shape (components, dimensions)."""
    roots: Points
    """Cholesky factors of the covariances, shape (components, dimensions, dimensions)."""

    @classmethod
    def read(cls, path: Path) -> Self:
        stored = json.loads(path.read_text())
        weights, means, covariances = (np.array(stored[name]) for name in ("weights", "means", "covariances"))
        return cls(stored["decimals"], weights / weights.sum(), means, np.linalg.cholesky(covariances))

    def draw(self, seed: int, temperature: float) -> Points:
        """One point, shape (dimensions,)."""
        dice = np.random.default_rng(seed)
        which = dice.choice(len(self.weights), p=self.weights)
        noise = dice.standard_normal(self.means.shape[1])
        return np.asarray(self.means[which] + np.sqrt(temperature) * self.roots[which] @ noise)

    def nll(self, points: Points, temperatures: Sequence[float]) -> Points:
        """Surprise at each point, shape (points, temperatures)."""
        size, hot = self.means.shape[1], np.array(temperatures)
        by_component = []
        for weight, mean, root in zip(self.weights, self.means, self.roots, strict=True):
            apart = np.square(solve_triangular(root, (points.reshape(-1, size) - mean).T, lower=True)).sum(0)
            volume = size * np.log(2 * np.pi * hot) + 2 * np.log(np.diag(root)).sum()
            by_component.append(np.log(max(weight, 1e-300)) - (apart[:, None] / hot + volume) / 2)
        return nll_from_density(logsumexp(by_component, axis=0), size, self.decimals)


@lru_cache(maxsize=4)
def _load(model: Path) -> _Mixture:
    return _Mixture.read(require_model(model, _FILE))
