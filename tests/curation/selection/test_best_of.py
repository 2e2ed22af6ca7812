from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.metrics.lexical_diversity import lexical_diversity
from curation.selection.best_of import (
    BestOfSettings,
    nearest_distance,
    score_responses,
    select_best_of_n,
    words_per_text,
)
from curation.selection.routing import assign_by_thompson_sampling, assign_round_robin, underrepresented_shares
from curation.selection.sampling import fill_to_total, rarest_word_bin, systematic_sample
from heirloom.errors import HeirloomError

_NAN = float("nan")


def test_each_group_keeps_its_best_and_of_equals_the_first() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2, 2])
    scores = np.array([1.0, 3.0, 2.0, 5.0, 5.0, _NAN, -1.0])
    assert select_best_of_n(groups, scores).tolist() == [False, True, False, True, False, False, True]
    assert select_best_of_n(np.array([0]), np.array([_NAN])).tolist() == [False]
    assert select_best_of_n(np.array([], np.int64), np.array([])).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_one_of_each_group_stays_and_none_of_it_is_better(answers: list[tuple[int, float]]) -> None:
    groups, scores = np.array([group for group, _ in answers]), np.array([score for _, score in answers])
    kept = select_best_of_n(groups, scores)
    assert sorted(groups[kept]) == sorted(set(groups.tolist()))
    for group, score in zip(groups[kept], scores[kept], strict=True):
        assert score == scores[groups == group].max()


def test_longer_texts_are_longer_and_richer_ones_richer() -> None:
    assert words_per_text(["one two three", ""]).tolist() == [3, 0]
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
    assert nearest_distance(vectors, vectors[:1]).tolist() == [0, 1, 1]
    assert nearest_distance(vectors, vectors[:0]).tolist() == [1, 1, 1]


@given(st.lists(st.floats(0, 20), min_size=1, max_size=40), st.integers(0, 1000))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_systematic_counts_follow_their_expectation(expected: list[float], seed: int) -> None:
    counts = systematic_sample(np.array(expected), seed)
    assert (np.abs(counts - np.array(expected)) < 1 + 1e-9).all()
    assert (np.abs(np.cumsum(counts) - np.cumsum(expected)) <= 1 + 1e-9).all()


def test_systematic_counts_are_right_on_average() -> None:
    expected = np.array([0.25, 1.5, 0.1, 3.0])
    average = np.mean([systematic_sample(expected, seed) for seed in range(4000)], axis=0)
    assert np.allclose(average, expected, atol=0.04)


def test_systematic_sampling_keeps_more_types_than_multinomial_under_replacement() -> None:
    types, rounds = 2000, 10
    human = 1 / np.arange(1, types + 1)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        multinomial = systematic = human / human.sum() * 4000
        for turn in range(rounds):
            size = int(rng.integers(4000, 5000))
            multinomial = rng.multinomial(size, multinomial / multinomial.sum()).astype(float)
            systematic = systematic_sample(systematic / systematic.sum() * size, seed * 100 + turn).astype(float)
        assert (systematic > 0).sum() > 2 * (multinomial > 0).sum()


def test_underrepresented_topics_get_the_larger_prompt_shares() -> None:
    human, synthetic = np.array([50.0, 30.0, 20.0]), np.array([90.0, 10.0, 0.0])
    shares = underrepresented_shares(human, synthetic)
    assert shares.sum() == pytest.approx(1)
    assert shares.tolist() == pytest.approx([0.1, 0.5, 0.4])
    assert underrepresented_shares(human, np.zeros(3)).tolist() == pytest.approx([0.5, 0.3, 0.2])


def test_teachers_are_dealt_alike_to_the_prompt() -> None:
    assert Counter(assign_round_robin(10, ["a", "b", "c"], 0)) == {"a": 4, "b": 3, "c": 3}
    assert (
        assign_round_robin(9, ["a", "b"], 1)
        == assign_round_robin(9, ["a", "b"], 1)
        != assign_round_robin(9, ["a", "b"], 2)
    )


def test_thompson_sampling_routes_prompts_to_the_best_teacher_of_their_stratum() -> None:
    # Five strata, three teachers: no teacher is best everywhere.
    truth = {(f"s{row}", f"t{who}"): float((row + who) % 3) for row in range(5) for who in range(3)}
    rng, teachers, strata = np.random.default_rng(0), ["t0", "t1", "t2"], [f"s{row}" for row in range(5)] * 40
    earned: dict[tuple[str, str], list[float]] = {}
    worth = []
    for turn in range(4):
        asked = assign_by_thompson_sampling(strata, teachers, earned, turn)
        found = [truth[pair] for pair in zip(strata, asked, strict=True)]
        for pair, one in zip(zip(strata, asked, strict=True), found, strict=True):
            earned.setdefault(pair, []).append(one + rng.normal(0, 0.3))
        worth.append(float(np.mean(found)))
    single = max(np.mean([truth[row, who] for row in strata]) for who in teachers)
    assert worth[0] == pytest.approx(1, abs=0.2)
    assert worth[-1] > 1.9 > single


def test_a_teacher_with_few_answers_is_given_a_chance_and_one_without_any_too() -> None:
    asked = assign_by_thompson_sampling(["s"] * 200, ["a", "b"], {("s", "a"): [1.0, 5.0], ("s", "b"): [3.0, 3.1]}, 0)
    assert set(asked) == {"a", "b"}
    assert set(assign_by_thompson_sampling(["s"] * 200, ["a", "new"], {("s", "a"): [1.0, 2.0] * 20}, 0)) == {"a", "new"}
    assert Counter(assign_by_thompson_sampling(["s"] * 10, ["a", "b"], {("s", "a"): [_NAN]}, 0)) == {"a": 5, "b": 5}


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), min_size=1, max_size=12), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_counts_fill_their_total_and_no_stratum_beyond_its_room(
    strata: list[tuple[int, float]], data: st.DataObject
) -> None:
    room, shares = np.array([one for one, _ in strata]), np.array([share for _, share in strata])
    total = data.draw(st.integers(0, int(room.sum())))
    counts = fill_to_total(total, shares, room, 3)
    assert counts.sum() == total
    assert (counts >= 0).all()
    assert (counts <= room).all()


def test_counts_follow_their_shares_where_there_is_room() -> None:
    assert fill_to_total(100, np.array([0.5, 0.3, 0.2]), np.array([99, 99, 99]), 0).tolist() == [50, 30, 20]
    with pytest.raises(ValueError, match="7 records are required, but only 6 are available"):
        fill_to_total(7, np.array([0.5, 0.5]), np.array([3, 3]), 0)


def test_the_rarity_bin_of_a_text_is_that_of_its_rarest_human_word() -> None:
    counts = {"the": 100, "river": 9, "heron": 1}
    assert rarest_word_bin(["the river", "the heron of the river", "the xyz", "?!"], counts).tolist() == [3, 0, 6, -1]


def by_vowels(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
    return [sum(sign in "aeiou" for sign in text) + len(prompt) for prompt, text in zip(prompts, texts, strict=True)]


def too_few(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
    return [1.0] * (len(texts) - len(prompts) + 1)


def test_a_function_of_ones_own_scores_prompts_with_their_texts() -> None:
    own = BestOfSettings(objective="tests.curation.selection.test_best_of:by_vowels")
    assert score_responses(own, ["p", ""], ["aah", "brr"]).tolist() == [3, 0]
    assert score_responses(BestOfSettings(objective="length"), ["", ""], ["one two", "one"]).tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"received 2 texts and returned scores of shape \(1,\)"):
        score_responses(BestOfSettings(objective="tests.curation.selection.test_best_of:too_few"), ["", ""], ["a", "b"])


def test_an_objective_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"no reward `beauty`. Known names: length"):
        BestOfSettings(objective="beauty")
    with pytest.raises(HeirloomError, match="nowhere in `nowhere:found` cannot be imported"):
        score_responses(BestOfSettings(objective="nowhere:found"), [""], ["a"])
