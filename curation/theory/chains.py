"""Run and analyze Markovian generation chains: a frozen model whose only input is its own last output.

A state is a whole text, or any hashable value; no memory is passed from one step to the next. The functions compute the
observables of a chain of T steps: first recurrence, recurrent set, distinct states, similarity and drift.
Geng, Mohamed, Shang, Vazirgiannis, Poibeau 2026, "Markovian Generation Chains in Large Language Models",
arXiv:2603.11228.
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
    """Several chains, each with its seed and T steps: `states[chain][step]`."""

    states: tuple[tuple[str, ...], ...]

    @property
    def steps(self) -> int:
        """T, the number of steps of each chain."""
        return len(self.states[0]) - 1

    def first_recurrences(self) -> list[int]:
        """Return tau_T of every chain."""
        return [first_recurrence(chain) for chain in self.states]

    def distinct(self) -> list[int]:
        """Return the number of distinct texts over all chains at each step, seeds first."""
        return [len(set(texts)) for texts in zip(*self.states, strict=True)]

    def similarity(self) -> list[float]:
        """Return the mean bigram Jaccard similarity of each step to the one before, from step 1 on."""
        return [
            float(np.mean([bigram_jaccard(chain[step - 1], chain[step]) for chain in self.states]))
            for step in range(1, self.steps + 1)
        ]

    def drift(self) -> list[float]:
        """Return 1 minus the mean bigram Jaccard similarity of each step to its seed, from step 1 on."""
        return [
            1 - float(np.mean([bigram_jaccard(chain[0], chain[step]) for chain in self.states]))
            for step in range(1, self.steps + 1)
        ]


def run_chains(generate: Callable[[Sequence[str], int], Sequence[str]], seeds: Sequence[str], steps: int) -> Chains:
    """Generate from the last outputs `steps` times.

    Args:
        generate: returns the outputs of all chains from their last outputs; the step number can seed its random
            numbers.
        seeds: first text of each chain.
        steps: number of steps, T.
    """
    texts_by_step = [tuple(seeds)]
    for step in range(1, steps + 1):
        texts_by_step.append(tuple(generate(texts_by_step[-1], step)))
    return Chains(tuple(zip(*texts_by_step, strict=True)))


def first_recurrence(chain: Sequence[Hashable]) -> int:
    """Return tau_T, the first step whose state occurred before exactly; T + 1 without any."""
    seen: set[Hashable] = set()
    for step, state in enumerate(chain):
        if state in seen:
            return step
        seen.add(state)
    return len(chain)


def recurrent_set(chain: Sequence[State]) -> list[State]:
    """Return the states between the two occurrences of the first recurrent state; the cycle, under greedy decoding.

    Empty without a recurrence.
    """
    step = first_recurrence(chain)
    return list(chain[list(chain).index(chain[step]) : step]) if step < len(chain) else []


def bigram_jaccard(first: str, second: str) -> float:
    """Return the Jaccard similarity of the word bigrams of two texts; 1 for two texts without words.

    Uses single words if one of the texts has fewer than two.
    """
    first_words, second_words = words(first), words(second)
    size = 2 if min(len(first_words), len(second_words)) > 1 else 1
    left, right = _ngram_set(first_words, size), _ngram_set(second_words, size)
    return len(left & right) / len(left | right) if left | right else 1.0


def _ngram_set(text_words: Sequence[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(text_words[start : start + size]) for start in range(len(text_words) - size + 1)}


def recurrent_classes(kernel: Kernel) -> list[frozenset[int]]:
    """Return the recurrent classes of a kernel, smallest state first: closed sets of states that all reach each other.

    Args:
        kernel: probability of going from a row's state to a column's, shape (states, states).
    """
    links = kernel > 0
    count, labels = connected_components(csr_array(links), directed=True, connection="strong")
    classes = []
    for label in range(count):
        inside = labels == label
        if not links[inside][:, ~inside].any():
            classes.append(frozenset(np.flatnonzero(inside).tolist()))
    return sorted(classes, key=min)


def simulate_walks(kernel: Kernel, starts: Sequence[int], steps: int, seed: int) -> NDArray[np.int64]:
    """Return the states of simulated chains with these first states, shape (chains, steps + 1)."""
    rng, cumulative = np.random.default_rng(seed), kernel.cumsum(1)
    states = [np.asarray(starts, np.int64)]
    for _ in range(steps):
        passed = rng.random(len(starts))[:, None] > cumulative[states[-1]] - 1e-12
        states.append(passed.sum(1).clip(max=len(kernel) - 1))
    return np.stack(states, 1)


def empirical_kernel(walks: NDArray[np.int64], states: int) -> Kernel:
    """Estimate a kernel from the transitions of walks; a state without any transition is absorbing."""
    counts = np.zeros((states, states))
    np.add.at(counts, (walks[:, :-1].ravel(), walks[:, 1:].ravel()), 1)
    absorbing = counts.sum(1) == 0
    counts[absorbing, absorbing] = 1
    return counts / counts.sum(1, keepdims=True)


def example_kernel(seed: int = 0) -> tuple[Kernel, list[frozenset[int]]]:
    """Return a kernel over 20 states with its recurrent classes: a fixed point, a cycle of two, and a class of five.

    The other twelve states are transient.
    """
    rng = np.random.default_rng(seed)
    kernel = np.zeros((20, 20))
    kernel[0, 0] = 1
    kernel[1, 2] = kernel[2, 1] = 1
    kernel[3:8, 3:8] = rng.dirichlet(np.ones(5), 5)
    kernel[8:, :] = rng.dirichlet(np.full(20, 0.5), 12)
    order = rng.permutation(20)
    permuted = np.zeros_like(kernel)
    permuted[np.ix_(order, order)] = kernel
    classes = [frozenset(order[list(members)].tolist()) for members in ((0,), (1, 2), range(3, 8))]
    return permuted, sorted(classes, key=min)
