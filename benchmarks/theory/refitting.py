"""Refit toy models to their own samples: regression, Gaussians, kernel densities, discrete distributions.

Three policies, many runs at once.

Gerstgrasser et al. 2024 (arXiv:2404.01413) and Kazdan et al. 2024 (arXiv:2410.16713). In every round a model is fitted
to its data and generates as many records as the first human data had. The next data are these records (replace), all so
far (accumulate), or a sample without replacement of all so far, as large as the first (accumulate-subsample). The
closed forms are in `curation.forecast`.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Policy = Literal["replace", "accumulate", "accumulate-subsample"]
POLICIES: tuple[Policy, ...] = ("replace", "accumulate-subsample", "accumulate")
Model = Callable[[Numbers, np.random.Generator], Numbers]
"""Fits data of shape (runs, records, ...) and generates as many records as the first had."""


def training_data_by_generation(
    model: Model, policy: Policy, human: Numbers, generations: int, seed: int
) -> Iterator[Numbers]:
    """What the model of each generation learns from, generation 0 first: human data, shape (runs, records, ...)."""
    rng = np.random.default_rng(seed)
    data = pool = human
    yield data
    for _ in range(generations):
        newest = model(data, rng)
        if policy != "replace":
            pool = np.concatenate([pool, newest], axis=1)
        data = newest if policy == "replace" else pool
        if policy == "accumulate-subsample":
            data = _drawn(pool, human.shape[1], rng)
        yield data


def gaussian(records: int, *, unbiased: bool = False) -> Model:
    """Fits mean and variance of one number a record; the likeliest variance, or the unbiased one."""

    def sample(data: Numbers, rng: np.random.Generator) -> Numbers:
        center, spread = data.mean(1, keepdims=True), data.std(1, keepdims=True, ddof=int(unbiased))
        return center + spread * rng.standard_normal((len(data), records))

    return sample


def kernel_density(records: int, bandwidth: float) -> Model:
    """Draws a record of the data and adds Gaussian noise of this width."""

    def sample(data: Numbers, rng: np.random.Generator) -> Numbers:
        chosen = rng.integers(data.shape[1], size=(len(data), records))
        return np.take_along_axis(data, chosen, 1) + bandwidth * rng.standard_normal(chosen.shape)

    return sample


def die(records: int, outcomes: int, temperature: float = 1.0) -> Model:
    """Counts outcomes, and samples from these shares, sharpened by the temperature."""

    def sample(data: Numbers, rng: np.random.Generator) -> Numbers:
        shares = counts_of(data, outcomes) ** (1 / temperature)
        shares /= shares.sum(1, keepdims=True)
        thrown = rng.multinomial(records, shares)
        return np.stack([np.repeat(np.arange(outcomes), one) for one in thrown]).astype(np.float64)

    return sample


def regression(inputs: Numbers, noise: float = 1.0) -> Model:
    """Least squares; generates new labels for the same inputs. The last column of the data is the label."""

    def sample(data: Numbers, rng: np.random.Generator) -> Numbers:
        labels = np.einsum("rnd,rd->rn", inputs, weights_of(data)) + noise * rng.standard_normal(inputs.shape[:2])
        return np.concatenate([inputs, labels[..., None]], axis=2)

    return sample


def weights_of(data: Numbers) -> Numbers:
    """Least squares of the last column on the others, shape (runs, dimensions)."""
    inputs, labels = data[..., :-1], data[..., -1:]
    turned = inputs.transpose(0, 2, 1)
    return np.asarray(np.linalg.solve(turned @ inputs, turned @ labels)[..., 0], np.float64)


_SAMPLES, _DIMENSIONS = 111, 10
"""Labelled points of a fit, and their dimensions."""


def regression_errors(policy: Policy, generations: int, seed: int, *, runs: int = 400) -> list[float]:
    """Mean squared error of the fitted weights after 1, 2, ... fits; the true weights are 0 and the noise 1."""
    rng = np.random.default_rng((seed, 1))
    inputs = rng.standard_normal((runs, _SAMPLES, _DIMENSIONS))
    human = np.concatenate([inputs, rng.standard_normal((runs, _SAMPLES, 1))], axis=2)
    data_by_generation = training_data_by_generation(regression(inputs), policy, human, generations - 1, seed)
    return [float((weights_of(data) ** 2).sum(1).mean()) for data in data_by_generation]


def counts_of(data: Numbers, outcomes: int) -> Numbers:
    """How often each outcome stands in the data of each run, shape (runs, outcomes)."""
    runs = len(data)
    flat = (data.astype(np.int64) + outcomes * np.arange(runs)[:, None]).ravel()
    return np.bincount(flat, minlength=runs * outcomes).reshape(runs, outcomes).astype(np.float64)


def density_loss(data: Numbers, bandwidth: float, heldout: Numbers) -> float:
    """Mean negative log-likelihood of held-out numbers under the kernel density of each run's data, in nats."""
    losses = []
    for one in data:
        apart = -0.5 * ((heldout[:, None] - one) / bandwidth) ** 2
        most = apart.max(1)
        logs = most + np.log(np.exp(apart - most[:, None]).mean(1)) - np.log(bandwidth * np.sqrt(2 * np.pi))
        losses.append(-float(logs.mean()))
    return float(np.mean(losses))


def _drawn(pool: Numbers, records: int, rng: np.random.Generator) -> Numbers:
    places = np.argpartition(rng.random(pool.shape[:2]), records - 1, axis=1)[:, :records]
    return np.take_along_axis(pool, places.reshape(*places.shape, *([1] * (pool.ndim - 2))), axis=1)
