"""Simulate curation by human preference.

Outcomes with rewards, selected among several samples, with or without a human share.

Ferbach, Bertrand, Bose, Gidel 2024, "Self-consuming generative models with curated data", arXiv:2407.09499: people
choose one of K samples with probabilities proportional to exp(reward). For many samples the next model is p(x)
exp(r(x)) over its sum.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def curated_trajectories(rewards: Sequence[Numbers], human_fraction: float, generations: int) -> Numbers:
    """Shares of the outcomes by generation, the first uniform and human, shape (generations + 1, outcomes).

    Each reward is one group's, all groups choose equally often, among very many answers; `human_fraction` of each round
    is human.
    """
    human = np.full(len(rewards[0]), 1 / len(rewards[0]))
    trajectory = [human]
    for _ in range(generations):
        chosen = np.zeros_like(human)
        for reward in rewards:
            liked = trajectory[-1] * np.exp(reward)
            chosen += liked / liked.sum() / len(rewards)
        trajectory.append(human_fraction * human + (1 - human_fraction) * chosen)
    return np.array(trajectory)


def chosen_among(shares: Numbers, reward: Numbers, answers: int, num_choices: int, seed: int) -> Numbers:
    """Shares of what is chosen, where each of `askings` people sees `answers` answers; shape (outcomes,)."""
    rng = np.random.default_rng(seed)
    offered = rng.choice(len(shares), size=(num_choices, answers), p=shares)
    # The largest of reward and Gumbel noise is a choice with chances proportional to exp(reward).
    liked = (reward[offered] + rng.gumbel(size=offered.shape)).argmax(1)
    return np.bincount(offered[np.arange(num_choices), liked], minlength=len(shares)) / num_choices


def effective_types(shares: Numbers) -> Numbers:
    """Exponential of the entropy along the last axis: how many equally likely outcomes would be as varied."""
    logs = np.log(np.where(shares > 0, shares, 1))
    return np.asarray(np.exp(-(shares * logs).sum(-1)))


def reward_variance(shares: Numbers, reward: Numbers) -> Numbers:
    """Variance of the reward along the last axis; it converges to 0 with a single reward."""
    return np.asarray(shares @ reward**2 - (shares @ reward) ** 2)
