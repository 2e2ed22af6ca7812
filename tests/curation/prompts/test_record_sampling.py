from collections import Counter

import numpy as np
import pytest

from curation.prompts.record_sampling import cycle_shuffled, sample_by_source, sample_by_topic, sample_uniform
from curation.selection.topics import TopicModel


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_record_is_asked_before_one_is_asked_again() -> None:
    rows = sample_uniform(_rng(), 5, 8, rounds=2)
    assert sorted(rows[:5].tolist()) == [0, 1, 2, 3, 4]
    assert set(Counter(rows.tolist()).values()) == {1, 2}
    assert cycle_shuffled(_rng(), np.arange(0), 0).tolist() == []


def test_sources_get_their_shares() -> None:
    rows = sample_by_source(_rng(), ["a", "b", "a", "b"], {"a": 0.25, "b": 0.75}, 4, rounds=2)
    assert Counter("ab"[row % 2] for row in rows.tolist()) == {"a": 1, "b": 3}


def _topics(shares: list[float]) -> TopicModel:
    of_human, words = np.array([0, 0, 0, 0, 1, 1]), [("a",), ("b",)]
    return TopicModel(of_human, np.array([4, 2]), np.array([0, 0]), np.array(shares), words)


def test_topics_get_their_shares_as_far_as_there_is_room() -> None:
    by_share = sample_by_topic(_rng(), _topics([0.5, 0.5]), 4, rounds=1)
    assert Counter((by_share >= 4).tolist()) == {False: 2, True: 2}
    full = sample_by_topic(_rng(), _topics([0.0, 1.0]), 4, rounds=1)
    assert Counter((full >= 4).tolist()) == {False: 2, True: 2}
    again = sample_by_topic(_rng(), _topics([0.0, 1.0]), 4, rounds=2)
    assert Counter(again.tolist()) == {4: 2, 5: 2}


@pytest.mark.parametrize("rounds", [1, 2])
def test_more_than_the_rounds_allow_is_refused(rounds: int) -> None:
    with pytest.raises(
        ValueError, match=rf"requires {rounds * 6 + 1} prompts from human training records.*only {rounds * 6} are"
    ):
        sample_by_topic(_rng(), _topics([0.5, 0.5]), rounds * 6 + 1, rounds)
