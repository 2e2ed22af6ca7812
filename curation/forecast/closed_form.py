"""Closed forms for what a loop will lose, before the money is spent, each with its source.

They hold for models that learn their corpus exactly and are sampled without bias; what a real model adds to the
loss comes on top. `heirloom report` draws them beside what was measured, so that the difference can be seen.
"""

import numpy as np
from numpy.typing import NDArray

from heirloom.errors import HeirloomError

Numbers = NDArray[np.float64]


def type_survival(counts: Numbers, generations: int) -> Numbers:
    """Chance that a type said `counts` times in human text is still said after so many rounds of replacing, shape as counts.

    1 - f_k^c with f_0 = 0 and f_k = exp(f_{k-1} - 1): each occurrence has Poisson(1) offspring. The published bound
    1 - exp(-c/k) (Suresh et al. 2024, arXiv:2412.17646) lies below.
    """
    lost = 0.0
    for _ in range(generations):
        lost = np.exp(lost - 1)
    return np.asarray(1 - lost**counts)


def type_presence_at_equilibrium(counts: Numbers, human_fraction: float, rounds: int = 2000) -> Numbers:
    """Chance that a type is there in the long run, where every round has a fixed share of human records.

    `counts` are expected in a human sample of a round's full size. 1 - exp(-a L sum_j (1 - s_j)) with s_0 = 0 and
    s_{j+1} = exp((1-a)(s_j - 1)): each round's human arrivals and what is left of their descendants.
    """
    return np.asarray(1 - np.exp(-human_fraction * counts * _descent(human_fraction, rounds)))


def type_presence_after(counts: Numbers, human_fraction: float, generations: int) -> Numbers:
    """The same after so many rounds from a first one of human records alone: the lines of the first corpus count too."""
    state = arrivals = 0.0
    for _ in range(generations):
        arrivals += 1 - state
        state = float(np.exp((1 - human_fraction) * (state - 1)))
    return np.asarray(1 - np.exp(-counts * (human_fraction * arrivals + 1 - state)))


def human_fraction_needed(count: float, presence: float, generations: int | None = None) -> float:
    """Least human share that keeps a type of this expected count with this chance; the inverse of the above.

    In the long run, or for so many generations.

    Raises:
        HeirloomError: human text alone would not keep it: the chance asked for is above 1 - exp(-count).
    """
    most = float(type_presence_at_equilibrium(np.array([count]), 1.0)[0])
    if presence > most:
        raise HeirloomError(
            f"a type expected {count:g} times is in a human sample with chance {most:.3f} at most; asked for {presence:g}: "
            "ask for less, or for types that are more frequent"
        )
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        counts = np.array([count])
        kept = (
            type_presence_after(counts, middle, generations)
            if generations
            else type_presence_at_equilibrium(counts, middle)
        )
        low, high = (low, middle) if kept[0] >= presence else (middle, high)
    return high


def collision_probability(first: float, records: int, generations: int) -> float:
    """Expected sum of squared shares of what is said, after so many rounds of replacing `records` records.

    1 - (1 - 1/n)^m (1 - S_0). Seddik et al. 2024, arXiv:2404.05090.
    """
    return float(1 - (1 - 1 / records) ** generations * (1 - first))


def gaussian_variance(samples: int, generations: int) -> tuple[float, float]:
    """Median of the unbiased and mean of the maximum-likelihood variance of a refitted Gaussian, against its first.

    exp(-k/(M-1)) and (1 - 1/M)^k. The mean of the unbiased one stays 1 and hides the loss. Shumailov et al. 2024.
    """
    return float(np.exp(-generations / (samples - 1))), float((1 - 1 / samples) ** generations)


def regression_error(samples: int, dimensions: int, noise: float, generations: int) -> tuple[float, float]:
    """Test error over the noise of a linear regression on its own labels: where text is replaced, and accumulated.

    sigma^2 d / (T - d - 1) times n, and times the sum of 1/i^2. Gerstgrasser et al. 2024, arXiv:2404.01413.
    """
    once = noise**2 * dimensions / (samples - dimensions - 1)
    return once * generations, once * sum(1 / turn**2 for turn in range(1, generations + 1))


def compounded_temperature(temperature: float, generations: int) -> float:
    """The one temperature at which sampling once is as narrow as so many rounds at `temperature`: T^k for exact models."""
    return float(temperature**generations)


def nucleus_mass(top_p: float, generations: int) -> float:
    """About how much of the probability is left after so many rounds of top-p sampling: p^k."""
    return float(top_p**generations)


def truncated_tail_error(rank: int, exponent: float) -> float:
    """Error that more text cannot remove where a Zipf tail is cut at this rank: k^-(beta - 1).

    Dohmatob et al. 2024, arXiv:2402.07043.
    """
    return float(rank ** -(exponent - 1))


def label_shift_error(samples: int, dimensions: int, noise: float, shifted: float, shift: float) -> float:
    """Error of a regression of which a fixed share has shifted labels: sigma^2 d / n + p^2 c^2, which more data leaves.

    Dohmatob et al. 2024, "Strong model collapse", arXiv:2410.04840.
    """
    return noise**2 * dimensions / samples + shifted**2 * shift**2


def verifier_break_even(keeps_right: float, keeps_wrong: float) -> float:
    """Largest share of wrong labels at which training on what a verifier keeps still gets better: 1 / (1 + psi/phi).

    Feng et al. 2024, arXiv:2406.07515.
    """
    return 1 / (1 + keeps_wrong / keeps_right)


def fresh_loop_error(
    human: int, synthetic: int, bias: float, seed: int, *, dimensions: int = 100, rounds: int = 40
) -> float:
    """Long-run squared Wasserstein-2 distance of a refitted Gaussian from the truth: mean over the second half of the rounds.

    Each round fits mean and covariance to `human` fresh samples and `synthetic` ones of the last fit, whose covariance is
    scaled by `bias` (1: unbiased sampling). Alemohammad et al. 2023, arXiv:2307.01850.
    """
    rng = np.random.default_rng(seed)
    centre, root, found = np.zeros(dimensions), np.eye(dimensions), []
    for turn in range(rounds):
        fresh = rng.standard_normal((human, dimensions))
        own = centre + np.sqrt(bias) * rng.standard_normal((synthetic, dimensions)) @ root
        data = np.concatenate([fresh, own]) if turn else fresh
        centre = data.mean(0)
        values, vectors = np.linalg.eigh(np.cov(data.T))
        spread = np.sqrt(np.maximum(values, 0))
        root = (vectors * spread) @ vectors.T
        if turn >= rounds // 2:
            found.append(float(centre @ centre + ((spread - 1) ** 2).sum()))
    return float(np.mean(found))


def admissible_synthetic(human: int, bias: float, seed: int, *, dimensions: int = 100, most: int = 1600) -> int:
    """Most synthetic samples a round, of 50, 100, 200, ... up to `most`, that leave the fit no worse than none; 0 if none do.

    By a small simulation, see `fresh_loop_error`; with biased sampling it does not grow with the human samples.
    """
    sizes = [50 * 2**step for step in range(20) if 50 * 2**step <= most]
    alone = fresh_loop_error(human, 0, bias, seed, dimensions=dimensions)
    helped = [size for size in sizes if fresh_loop_error(human, size, bias, seed, dimensions=dimensions) <= alone]
    return max(helped, default=0)


def _descent(human_fraction: float, rounds: int) -> float:
    state = total = 0.0
    for _ in range(rounds):
        total += 1 - state
        state = float(np.exp((1 - human_fraction) * (state - 1)))
    return total
