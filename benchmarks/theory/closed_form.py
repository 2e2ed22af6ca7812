"""Closed-form laws and small simulations of recursive training, each with its source.

They hold for models that fit their corpus exactly and are sampled without bias.
"""

import numpy as np


def collision_probability(first: float, records: int, generations: int) -> float:
    """Return the expected sum of squared shares after `generations` rounds of replacing `records` records.

    1 - (1 - 1/n)^m (1 - S_0), where `first` is S_0. Seddik et al. 2024, arXiv:2404.05090.
    """
    return float(1 - (1 - 1 / records) ** generations * (1 - first))


def gaussian_variance(samples: int, generations: int) -> tuple[float, float]:
    """Return the median unbiased and the mean maximum-likelihood variance of a refitted Gaussian over the first.

    exp(-k/(M-1)) and (1 - 1/M)^k. The mean of the unbiased one remains 1 and hides the loss. Shumailov et al. 2024.
    """
    return float(np.exp(-generations / (samples - 1))), float((1 - 1 / samples) ** generations)


def regression_error(samples: int, dimensions: int, noise: float, generations: int) -> tuple[float, float]:
    """Return the test error beyond the noise of a regression on its own labels, with data replaced and accumulated.

    sigma^2 d / (T - d - 1) times n, and times the sum of 1/i^2. Gerstgrasser et al. 2024, arXiv:2404.01413.
    """
    once = noise**2 * dimensions / (samples - dimensions - 1)
    return once * generations, once * sum(1 / step**2 for step in range(1, generations + 1))


def compounded_temperature(temperature: float, generations: int) -> float:
    """Return the temperature of one round that equals `generations` rounds at `temperature`: T^k for exact models."""
    return float(temperature**generations)


def nucleus_mass(top_p: float, generations: int) -> float:
    """Return the approximate probability mass that is left after `generations` rounds of top-p sampling: p^k."""
    return float(top_p**generations)


def truncated_tail_error(rank: int, exponent: float) -> float:
    """Return the error that more data cannot remove if a Zipf tail is cut at this rank: k^-(beta - 1).

    Dohmatob et al. 2024, arXiv:2402.07043.
    """
    return float(rank ** -(exponent - 1))


def label_shift_error(samples: int, dimensions: int, noise: float, shifted: float, shift: float) -> float:
    """Return the error of a regression with a fixed share of shifted labels: sigma^2 d / n + p^2 c^2.

    More data does not reduce the second term.

    Dohmatob et al. 2024, "Strong model collapse", arXiv:2410.04840.
    """
    return noise**2 * dimensions / samples + shifted**2 * shift**2


def verifier_break_even(keeps_right: float, keeps_wrong: float) -> float:
    """Return the largest share of wrong labels at which training on verified labels improves: 1 / (1 + psi/phi).

    phi and psi are the probabilities that the verifier keeps a right and a wrong label.

    Feng et al. 2024, arXiv:2406.07515.
    """
    return 1 / (1 + keeps_wrong / keeps_right)


_LOOP_ROUNDS = 40


def fresh_loop_error(human: int, synthetic: int, bias: float, seed: int, *, dimensions: int = 100) -> float:
    """Return the long-run squared Wasserstein-2 distance of a refitted Gaussian from the true one.

    The mean over the second half of the rounds.

    Each round fits mean and covariance to `human` fresh samples and `synthetic` ones of the last fit, whose covariance
    is scaled by `bias` (1: unbiased sampling). Alemohammad et al. 2023, arXiv:2307.01850.
    """
    rng = np.random.default_rng(seed)
    mean, root, distances = np.zeros(dimensions), np.eye(dimensions), []
    for step in range(_LOOP_ROUNDS):
        fresh = rng.standard_normal((human, dimensions))
        own = mean + np.sqrt(bias) * rng.standard_normal((synthetic, dimensions)) @ root
        data = np.concatenate([fresh, own]) if step else fresh
        mean = data.mean(0)
        values, vectors = np.linalg.eigh(np.cov(data.T))
        scale = np.sqrt(np.maximum(values, 0))
        root = (vectors * scale) @ vectors.T
        if step >= _LOOP_ROUNDS // 2:
            distances.append(float(mean @ mean + ((scale - 1) ** 2).sum()))
    return float(np.mean(distances))


def admissible_synthetic(human: int, bias: float, seed: int, *, dimensions: int = 100, most: int = 1600) -> int:
    """Return the largest number of synthetic samples per round that leaves the fit no worse than none; 0 if none does.

    Tries 50, 100, 200, ... up to `most`.

    By a small simulation, see `fresh_loop_error`; with biased sampling it does not grow with the human samples.
    """
    sizes = [50 * 2**step for step in range(20) if 50 * 2**step <= most]
    alone = fresh_loop_error(human, 0, bias, seed, dimensions=dimensions)
    helped = [size for size in sizes if fresh_loop_error(human, size, bias, seed, dimensions=dimensions) <= alone]
    return max(helped, default=0)
