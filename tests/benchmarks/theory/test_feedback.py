"""Curation by reward: it collapses onto the best rewarded, unless people or other rewards hold against it."""

import numpy as np
import pytest

from benchmarks.theory.feedback import chosen_among, curated_trajectories, effective_types, reward_variance

REWARD = np.linspace(0, 2, 50)


@pytest.mark.parametrize(
    ("share", "types", "variance"), [(0, 2.4, 0.001), (0.1, 7.1, 0.156), (0.3, 25.7, 0.327), (0.5, 42.7, 0.365)]
)
def test_the_human_share_decides_how_much_is_left(share: float, types: float, variance: float) -> None:
    last = curated_trajectories([REWARD], share, 30)[-1]
    assert effective_types(last) == pytest.approx(types, abs=0.05)
    assert reward_variance(last, REWARD) == pytest.approx(variance, abs=0.001)


def test_without_a_human_share_reward_rises_and_one_outcome_is_left() -> None:
    trajectory = curated_trajectories([REWARD], 0, 300)
    assert (np.diff(trajectory @ REWARD) > 0).all()
    assert effective_types(trajectory[-1]) == pytest.approx(1, abs=0.01)


def test_two_opposing_rewards_keep_both_modes() -> None:
    last = curated_trajectories([REWARD, 2 - REWARD], 0, 300)[-1]
    assert last[0] == pytest.approx(last[-1])
    assert last[0] > 0.3


def test_choice_among_many_answers_is_the_law() -> None:
    even = np.full(50, 0.02)
    law = curated_trajectories([REWARD], 0, 1)[1]
    apart = [np.abs(chosen_among(even, REWARD, many, 10_000, 0) - law).sum() / 2 for many in (2, 50)]
    assert apart[1] < 0.04 < 0.1 < apart[0]
