"""Markovian generation chains: a frozen model is given its own last output again and again, and nothing else.

Geng, Mohamed, Shang, Vazirgiannis, Poibeau 2026, "Markovian Generation Chains in Large Language Models", arXiv:2603.11228. A state is a
whole text (or any value that compares); no memory goes from one step to the next. What the chain shows when it is watched for T steps.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from curation.text import words

State = TypeVar("State", bound=Hashable)
Kernel = NDArray[np.float64]


@dataclass(frozen=True)
class Chains:
    """Several chains beside each other, each the seed and its T steps: `states[chain][step]`."""

    states: tuple[tuple[str, ...], ...]

    @property
    def steps(self) -> int:
        """T, the steps of each chain."""
        return len(self.states[0]) - 1

    def first_recurrences(self) -> list[int]:
        """tau_T of every chain."""
        return [first_recurrence(chain) for chain in self.states]

    def distinct(self) -> list[int]:
        """How many different texts the chains hold in each step; the first is of the seeds."""
        return [len(set(texts)) for texts in zip(*self.states, strict=True)]

    def similarity(self) -> list[float]:
        """Mean likeness of each step to the one before, from step 1 on."""
        return [
            float(np.mean([bigram_jaccard(chain[step - 1], chain[step]) for chain in self.states]))
            for step in range(1, self.steps + 1)
        ]

    def drift(self) -> list[float]:
        """One less the mean likeness of each step to its seed, from step 1 on."""
        return [
            1 - float(np.mean([bigram_jaccard(chain[0], chain[step]) for chain in self.states]))
            for step in range(1, self.steps + 1)
        ]


def run_chains(generate: Callable[[Sequence[str], int], Sequence[str]], seeds: Sequence[str], steps: int) -> Chains:
    """Give the outputs back `steps` times; `speak` answers all chains at once, and is told the step for its dice."""
    told = [tuple(seeds)]
    for step in range(1, steps + 1):
        told.append(tuple(generate(told[-1], step)))
    return Chains(tuple(zip(*told, strict=True)))


def first_recurrence(chain: Sequence[Hashable]) -> int:
    """tau_T: the first step whose state was there before, exactly; T + 1 where there is none."""
    seen: set[Hashable] = set()
    for step, state in enumerate(chain):
        if state in seen:
            return step
        seen.add(state)
    return len(chain)


def recurrent_set(chain: Sequence[State]) -> list[State]:
    """The states from a first recurrence back to where it was first met: the cycle, under greedy decoding. Empty without one."""
    step = first_recurrence(chain)
    return list(chain[list(chain).index(chain[step]) : step]) if step < len(chain) else []


def bigram_jaccard(first: str, second: str) -> float:
    """Jaccard similarity of the pairs of words of two texts, of words where one has a single one; 1 for two texts without words."""
    told = [words(text) for text in (first, second)]
    size = 2 if min(map(len, told)) > 1 else 1
    left, right = ({tuple(said[at : at + size]) for at in range(len(said) - size + 1)} for said in told)
    return len(left & right) / len(left | right) if left | right else 1.0


def recurrent_classes(kernel: Kernel) -> list[frozenset[int]]:
    """The recurrent classes of a kernel, smallest state first: sets that are left no more and in which all reach each other.

    Args:
        kernel: probability of going from a row's state to a column's, shape (states, states).
    """
    links = kernel > 0
    count, labels = connected_components(csr_array(links), directed=True, connection="strong")
    found = []
    for label in range(count):
        inside = labels == label
        if not links[inside][:, ~inside].any():
            found.append(frozenset(np.flatnonzero(inside).tolist()))
    return sorted(found, key=min)


def simulate_walks(kernel: Kernel, starts: Sequence[int], steps: int, seed: int) -> NDArray[np.int64]:
    """States of chains that start where they are told, shape (chains, steps + 1)."""
    rng, cumulative = np.random.default_rng(seed), kernel.cumsum(1)
    told = [np.asarray(starts, np.int64)]
    for _ in range(steps):
        told.append((rng.random(len(starts))[:, None] > cumulative[told[-1]] - 1e-12).sum(1).clip(max=len(kernel) - 1))
    return np.stack(told, 1)


def empirical_kernel(walks: NDArray[np.int64], states: int) -> Kernel:
    """The kernel that walks show: how often each step was seen; a state never left stays where it is."""
    seen = np.zeros((states, states))
    np.add.at(seen, (walks[:, :-1].ravel(), walks[:, 1:].ravel()), 1)
    still = seen.sum(1) == 0
    seen[still, still] = 1
    return seen / seen.sum(1, keepdims=True)


def example_kernel(seed: int = 0) -> tuple[Kernel, list[frozenset[int]]]:
    """A kernel over 20 states with its recurrent classes: a fixed point, a cycle of two, a class of five; twelve states are transient."""
    rng = np.random.default_rng(seed)
    kernel = np.zeros((20, 20))
    kernel[0, 0] = 1
    kernel[1, 2] = kernel[2, 1] = 1
    kernel[3:8, 3:8] = rng.dirichlet(np.ones(5), 5)
    kernel[8:, :] = rng.dirichlet(np.full(20, 0.5), 12)
    order = rng.permutation(20)
    mixed = np.zeros_like(kernel)
    mixed[np.ix_(order, order)] = kernel
    classes = [frozenset(order[list(members)].tolist()) for members in ((0,), (1, 2), range(3, 8))]
    return mixed, sorted(classes, key=min)
