import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.selection import best_of, distances, lengths, lexical_diversity, steered, systematic, teachers

_NAN = float("nan")


def test_each_group_keeps_its_best_and_of_equals_the_first() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2, 2])
    scores = np.array([1.0, 3.0, 2.0, 5.0, 5.0, _NAN, -1.0])
    assert best_of(groups, scores).tolist() == [False, True, False, True, False, False, True]
    assert best_of(np.array([0]), np.array([_NAN])).tolist() == [False]
    assert best_of(np.array([], np.int64), np.array([])).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_one_of_each_group_stays_and_none_of_it_is_better(answers: list[tuple[int, float]]) -> None:
    groups, scores = np.array([group for group, _ in answers]), np.array([score for _, score in answers])
    kept = best_of(groups, scores)
    assert sorted(groups[kept]) == sorted(set(groups.tolist()))
    for group, score in zip(groups[kept], scores[kept], strict=True):
        assert score == scores[groups == group].max()


def test_longer_texts_are_longer_and_richer_ones_richer() -> None:
    assert lengths(["one two three", ""]).tolist() == [3, 0]
    plain, rich, nothing = lexical_diversity(["the cat " * 30, " ".join(f"word{n}" for n in range(60)), "?!"])
    assert plain < 5 < rich == 60
    assert nothing == 0


def test_lexical_diversity_is_mtld_as_published() -> None:
    # One full run of four words at ratio 3/4, then 2/3 at the third repetition: counted by hand.
    (found,) = lexical_diversity(["a b a c a b"])
    forwards = 6 / (1 + (1 - 1) / 0.28)  # a b a: 2/3 <= .72 ends a run; c a b: nothing is repeated
    backwards = 6 / (0 + 1 + (1 - 1) / 0.28)  # b a c a: 3/4; b: 3/5 ends a run; a is left
    assert found == pytest.approx((forwards + backwards) / 2)


def test_distance_is_from_the_nearest_of_what_exists() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert distances(vectors, vectors[:1]).tolist() == [0, 1, 1]
    assert distances(vectors, vectors[:0]).tolist() == [1, 1, 1]


@given(st.lists(st.floats(0, 20), min_size=1, max_size=40), st.integers(0, 1000))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_systematic_counts_follow_their_expectation(expected: list[float], seed: int) -> None:
    counts = systematic(np.array(expected), seed)
    assert (np.abs(counts - np.array(expected)) < 1 + 1e-9).all()
    assert (np.abs(np.cumsum(counts) - np.cumsum(expected)) <= 1 + 1e-9).all()


def test_systematic_counts_are_right_on_average() -> None:
    expected = np.array([0.25, 1.5, 0.1, 3.0])
    average = np.mean([systematic(expected, seed) for seed in range(4000)], axis=0)
    assert np.allclose(average, expected, atol=0.04)


def test_systematic_sampling_keeps_more_types_than_dice_under_replacement() -> None:
    types, rounds = 2000, 10
    human = 1 / np.arange(1, types + 1)
    for seed in range(3):
        dice = np.random.default_rng(seed)
        by_dice = by_quota = human / human.sum() * 4000
        for turn in range(rounds):
            size = int(dice.integers(4000, 5000))
            by_dice = dice.multinomial(size, by_dice / by_dice.sum()).astype(float)
            by_quota = systematic(by_quota / by_quota.sum() * size, seed * 100 + turn).astype(float)
        assert (by_quota > 0).sum() > 2 * (by_dice > 0).sum()


def test_prompts_are_steered_to_what_was_said_too_little() -> None:
    human, said = np.array([50.0, 30.0, 20.0]), np.array([90.0, 10.0, 0.0])
    shares = steered(human, said)
    assert shares.sum() == pytest.approx(1)
    assert shares.tolist() == pytest.approx([0.1, 0.5, 0.4])
    assert steered(human, np.zeros(3)).tolist() == pytest.approx([0.5, 0.3, 0.2])


def test_rewards_route_better_than_one_teacher_and_doubt_is_given_a_chance() -> None:
    truth = np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    rewards = truth[:, :, None] + np.random.default_rng(0).normal(0, 0.3, (5, 3, 20))
    earned = {
        policy: truth[np.arange(5), teachers(policy, rewards, 0)].mean() for policy in ("fixed", "reward", "routed")
    }
    assert earned["reward"] == 3
    assert earned["fixed"] == truth.mean(0).max()
    assert earned["fixed"] < earned["routed"] <= 3
    unsure = np.array([[[1.0, 5.0], [3.0, 3.1]]])
    assert {int(teachers("routed", unsure, seed)[0]) for seed in range(40)} == {0, 1}


def test_a_teacher_that_was_never_asked_is_refused() -> None:
    with pytest.raises(ValueError, match="ask each of them first"):
        teachers("fixed", np.array([[[1.0], [_NAN]]]), 0)
