"""A frozen model goes on with its own last output."""

from pathlib import Path

import pytest

from curation.theory.chains import first_recurrence
from tasks.backends import Sampling
from tasks.backends.registry import Backends
from tasks.generation.chains import ChainSpec, middle_third, run_chain, train_demo_model


def test_greedy_chains_of_a_small_model_come_back_and_sampled_ones_rarely_do(
    tmp_path: Path, backends: Backends
) -> None:
    with pytest.raises(ValueError, match="only 300 passages to start from; set at most that many chains, not 100000"):
        train_demo_model(tmp_path, 100_000, backends)
    seeds = train_demo_model(tmp_path, 12, backends)
    assert len(set(seeds)) == 12
    chains = {
        top_k: run_chain(
            tmp_path,
            seeds,
            ChainSpec(steps=30, sampling=Sampling(sampler="ngram", max_tokens=30, top_k=top_k)),
            backends,
        )
        for top_k in (1, 0)
    }
    assert all(time <= 30 for time in chains[1].first_recurrences())
    assert sum(time <= 30 for time in chains[0].first_recurrences()) <= 4
    assert chains[1].distinct()[-1] < chains[0].distinct()[-1]
    # The same rng, the same chains; and nothing but the last output is remembered.
    again = run_chain(tmp_path, seeds, ChainSpec(steps=2, sampling=Sampling(sampler="ngram", max_tokens=30)), backends)
    assert [one[:3] for one in chains[0].states] == list(again.states)
    later = run_chain(
        tmp_path,
        [chains[1].states[0][5]],
        ChainSpec(steps=3, sampling=Sampling(sampler="ngram", max_tokens=30, top_k=1), seed=9),
        backends,
    )
    assert later.states[0] == chains[1].states[0][5:9]
    assert first_recurrence(later.states[0]) <= 4


def test_a_template_without_a_place_for_the_output_is_refused(tmp_path: Path, backends: Backends) -> None:
    spec = ChainSpec(steps=1, sampling=Sampling(sampler="ngram"), template="Rephrase this")
    with pytest.raises(ValueError, match=r"does not contain \{text\}; put \{text\} in place of the last output"):
        run_chain(tmp_path, ["a"], spec, backends)


def test_the_middle_is_the_middle_third_of_the_words() -> None:
    assert middle_third("one two three  four five six") == " three  four"
    assert middle_third("one two") == "one"
    assert middle_third("one") == ""
    assert middle_third("") == ""
