"""Simulate the sources of error of recursive training.

Finite samples, limited capacity, imperfect optimization, each switched on alone.

Shumailov et al. 2024, Nature 631:755, name the three. A distribution over points on a line is refitted repeatedly;
without any of the three, every generation equals the first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]

POINTS = np.linspace(-16, 16, 321)
"""Wide enough that a Gaussian refitted on them is itself again."""


@dataclass(frozen=True)
class ErrorSources:
    """What is imperfect; nothing, as it stands.

    samples: drawn a round; None learns the exact distribution. one_gaussian: all that the model can be. steps: of
    gradient descent from a uniform start, after which the optimizer stops; None fits exactly.
    """

    samples: int | None = None
    one_gaussian: bool = False
    steps: int | None = None


def two_humps() -> Shares:
    """Two Gaussians, at -2 and 2, of width 0.7: what one Gaussian cannot be."""
    return _shares(np.exp(-0.5 * ((POINTS + 2) / 0.7) ** 2) + np.exp(-0.5 * ((POINTS - 2) / 0.7) ** 2))


def one_hump() -> Shares:
    """One standard Gaussian."""
    return _shares(np.exp(-0.5 * POINTS**2))


def divergences(human: Shares, switches: ErrorSources, generations: int, seed: int, runs: int = 100) -> list[float]:
    """Mean over runs of the total variation between the human shares and each generation's model, from 1 on."""
    rng, shares, found = np.random.default_rng(seed), np.tile(human, (runs, 1)), []
    for _ in range(generations):
        shares = _learned(shares, switches, rng)
        found.append(float(0.5 * np.abs(shares - human).sum(1).mean()))
    return found


def _learned(shares: Shares, switches: ErrorSources, rng: np.random.Generator) -> Shares:
    seen = shares
    if switches.samples is not None:
        seen = rng.multinomial(switches.samples, shares) / switches.samples
    if switches.one_gaussian:
        center = (seen @ POINTS)[:, None]
        spread = np.sqrt((seen * (POINTS - center) ** 2).sum(1, keepdims=True))
        seen = _shares(np.exp(-0.5 * ((POINTS - center) / spread) ** 2))
    return seen if switches.steps is None else _descended(seen, switches.steps)


def _descended(wanted: Shares, steps: int, rate: float = 20.0) -> Shares:
    """Softmax of logits after so many steps down the cross-entropy, whose gradient is prediction minus target."""
    logits = np.zeros_like(wanted)
    for _ in range(steps):
        logits -= rate * (_shares(np.exp(logits)) - wanted)
    return _shares(np.exp(logits))


def _shares(weights: Shares) -> Shares:
    return weights / weights.sum(-1, keepdims=True)
