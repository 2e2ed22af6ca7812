"""Chains come back when they come back, and the classes of a known kernel are recovered exactly."""

import numpy as np
import pytest

from curation.theory.chains import (
    Chains,
    bigram_jaccard,
    empirical_kernel,
    example_kernel,
    first_recurrence,
    recurrent_classes,
    recurrent_set,
    run_chains,
    simulate_walks,
)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_classes_of_a_known_kernel_are_recovered_from_it_and_from_walks_alone(seed: int) -> None:
    kernel, classes = example_kernel(seed)
    assert sorted(map(len, classes)) == [1, 2, 5]
    assert recurrent_classes(kernel) == classes
    walks = simulate_walks(kernel, list(range(20)) * 20, 200, seed)
    assert walks.shape == (400, 201)
    assert recurrent_classes(empirical_kernel(walks, 20)) == classes


def test_simulated_walks_have_the_transition_rates_of_their_kernel() -> None:
    kernel = np.array([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    walks = simulate_walks(kernel, [0, 2] * 500, 30, 0)
    assert empirical_kernel(walks, 3) == pytest.approx(kernel, abs=0.02)


def test_a_chain_comes_back_at_its_first_repetition_or_after_its_end() -> None:
    assert first_recurrence("abcbc") == 3
    assert recurrent_set("abcbc") == ["b", "c"]
    assert first_recurrence("abc") == 3
    assert recurrent_set("abc") == []
    assert recurrent_set("aa") == ["a"]


def test_chains_are_recorded_step_by_step() -> None:
    chains = run_chains(
        lambda texts, step: [f"{text[:4]} {step % 2}" for text in texts], ["one two three", "one two five"], 4
    )
    assert chains.steps == 4
    assert chains.distinct() == [2, 1, 1, 1, 1]
    assert chains.first_recurrences() == [3, 3]
    assert chains.drift()[-1] > 0.5


def test_likeness_is_of_pairs_of_words() -> None:
    assert bigram_jaccard("the old river", "the old river") == 1
    assert bigram_jaccard("the old river", "river old the") == 0
    assert bigram_jaccard("a b c", "a b d") == pytest.approx(1 / 3)
    assert bigram_jaccard("word", "word again") == 0.5
    assert bigram_jaccard("", "") == 1
    assert Chains((("x y", "x y"),)).similarity() == [1]
