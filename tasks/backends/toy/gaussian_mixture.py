"""A Gaussian mixture of points, fitted by maximum likelihood: the model that theories of collapse analyze.

The temperature multiplies the covariances, as for a single Gaussian, and leaves the weights. Covariances are at least
the rounding error, so that likelihoods stay finite when all points are equal.
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
from tasks.backends.types import Completion, Progress, Prompt, Score, Text, TrainingResult, TrainJob

_FILE = "mixture.json"
_STARTS = 3
"""Number of initializations, of which the fit with the highest likelihood is kept."""


def train(job: TrainJob[GaussianMixtureTraining], progress: Progress) -> TrainingResult:
    """Fit the mixture by expectation maximization.

    Raises:
        HeirloomError: the corpus is empty, a text is not a point, or there are fewer points than components.
    """
    settings, corpus = job.settings, job.corpus
    started = time.monotonic()
    points, human = training_points(corpus)
    if len(points) < max(2, settings.num_components):
        raise HeirloomError(
            f"train.num_components is {settings.num_components}, which needs {max(2, settings.num_components)} points, "
            f"but the corpus has {len(points)}. Lower train.num_components, or add points."
        )
    decimals = _load(job.gen0_model).decimals if job.gen0_model else infer_decimals([*corpus.human, *corpus.synthetic])
    fit = GaussianMixture(
        settings.num_components, reg_covar=0.01**decimals / 12, n_init=_STARTS, random_state=job.seed % 2**32, tol=1e-4
    )
    with warnings.catch_warnings():
        # Fewer distinct points than components, or no convergence: both are expected at the end of a collapse.
        warnings.simplefilter("ignore")
        fit.fit(points)
    stored = {"decimals": decimals, "weights": fit.weights_, "means": fit.means_, "covariances": fit.covariances_}
    (job.folder / _FILE).write_text(json.dumps(stored, default=np.ndarray.tolist))
    progress(1, 1)
    return TrainingResult(points.size, human * points.shape[1], fit.n_iter_, time.monotonic() - started, ())


def sample(
    settings: Sampling,
    resources: Resources,  # noqa: ARG001  (signature of all samplers)
    model: Path,
    prompts: Sequence[Prompt],
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Sample a point for each prompt from its own seed."""
    mixture = _load(model)

    def drawn(batch: Sequence[Prompt]) -> Points:
        return np.array([mixture.draw(prompt.seed, settings.temperature) for prompt in batch])

    return to_completions(prompts, drawn, lambda points: mixture.nll(points, (1.0,))[:, 0], mixture.decimals, progress)


def score(model: Path, texts: Sequence[Text], temperatures: Sequence[float], progress: Progress) -> list[Score]:
    """Return the negative log-likelihood of each point at each temperature. Its tokens are its numbers."""
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
        """Sample one point, shape (dimensions,)."""
        rng = np.random.default_rng(seed)
        component = rng.choice(len(self.weights), p=self.weights)
        noise = rng.standard_normal(self.means.shape[1])
        return np.asarray(self.means[component] + np.sqrt(temperature) * self.roots[component] @ noise)

    def nll(self, points: Points, temperatures: Sequence[float]) -> Points:
        """Return negative log-likelihoods, shape (points, temperatures)."""
        size, temperature = self.means.shape[1], np.array(temperatures)
        by_component = []
        for weight, mean, root in zip(self.weights, self.means, self.roots, strict=True):
            squared_distance = np.square(solve_triangular(root, (points.reshape(-1, size) - mean).T, lower=True)).sum(0)
            volume = size * np.log(2 * np.pi * temperature) + 2 * np.log(np.diag(root)).sum()
            by_component.append(np.log(max(weight, 1e-300)) - (squared_distance[:, None] / temperature + volume) / 2)
        return nll_from_density(logsumexp(by_component, axis=0), size, self.decimals)


@lru_cache(maxsize=4)
def _load(model: Path) -> _Mixture:
    return _Mixture.read(require_model(model, _FILE))
