import numpy as np
import pytest

from curation.selection.preferences import Pair, PreferenceScore, annotated_pair, best_vs_worst_pairs, preference_scores
from heirloom.chat import Message


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


_ASKED = [
    _turn("user", "What is rain?"),
    _turn("assistant", "Water that falls."),
    _turn("rejected", "### I\ndo not know."),
]


def test_a_conversation_that_ends_in_both_answers_is_a_pair() -> None:
    expected = (_ASKED[:1], _ASKED[1], _turn("assistant", "### I\ndo not know."))
    assert annotated_pair(_ASKED) == expected


@pytest.mark.parametrize("turns", [_ASKED[:2], _ASKED[1:], _ASKED[2:], [], [_ASKED[0], _ASKED[2], _ASKED[1]]])
def test_any_other_conversation_is_none(turns: list[Message]) -> None:
    assert annotated_pair(turns) is None


def test_the_best_that_was_kept_is_set_against_the_worst_of_all() -> None:
    prompts = ["a", "a", "a", "b", "b", "c"]
    merit = np.array([1.0, 5.0, 3.0, 2.0, 2.0, 9.0])
    kept = [True, False, True, True, True, True]
    # Of prompt b both are as good, and c was answered once.
    assert best_vs_worst_pairs(prompts, list("uvwxyz"), kept, merit) == [Pair(2, 0, 2.0)]


def test_a_prompt_without_a_kept_answer_or_another_text_has_no_pair() -> None:
    assert best_vs_worst_pairs(["a", "a"], ["x", "y"], [False, False], np.array([1.0, 2.0])) == []
    assert best_vs_worst_pairs(["a", "a"], ["x", "x"], [True, True], np.array([1.0, 2.0])) == []


def test_an_answer_whose_merit_is_not_known_takes_no_part() -> None:
    assert best_vs_worst_pairs(["a"] * 3, ["x", "y", "z"], [True] * 3, np.array([np.nan, 2.0, 1.0])) == [
        Pair(1, 2, 1.0)
    ]


@pytest.mark.parametrize(("by", "better"), [("likelihood", 0), ("length", 1), ("lexical_diversity", 1)])
def test_each_merit_has_its_own_best(by: PreferenceScore, better: int) -> None:
    found = preference_scores(by, ["rain rain rain", "rain falls where no roof is"], [1.0, 2.0])
    assert int(found.argmax()) == better
