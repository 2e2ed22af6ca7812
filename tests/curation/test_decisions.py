import numpy as np

from curation.decisions import (
    Decision,
    DuplicateMatches,
    FilterResult,
    RecordSet,
    as_number,
    decisions_from_duplicates,
    decisions_from_filter,
    decisions_from_scores,
    decisions_from_selection,
)

_ALIVE = RecordSet(["g0", "g1"], ["a", "b"], [3, 3])
_KNOWN = RecordSet(["h0"], ["c"], [0])


def test_records_are_taken_by_place_and_left_out_by_id() -> None:
    assert _ALIVE.take(np.array([1])) == RecordSet(["g1"], ["b"], [3])
    assert _ALIVE.exclude(["g1", "nobody"]) == RecordSet(["g0"], ["a"], [3])


def test_keepers_are_named_over_known_and_alive_together() -> None:
    answer = DuplicateMatches(np.array([0, 1]), np.array([0.8, 0.9]), np.array([np.nan, 0.7]))
    assert decisions_from_duplicates("exact", _ALIVE, _KNOWN, answer) == [
        Decision("g0", "exact", False, "says the same", "h0", 0, 0.8, None),
        Decision("g1", "exact", False, "says the same", "g0", 3, 0.9, 0.7),
    ]


def test_a_fault_is_the_reason() -> None:
    assert decisions_from_filter("pii", _ALIVE, FilterResult(["", "holds one"], np.array([0.0, 1.0]))) == [
        Decision("g0", "pii", True, "", score=0.0),
        Decision("g1", "pii", False, "holds one", score=1.0),
    ]


def test_without_a_gain_others_already_cover_it() -> None:
    assert decisions_from_selection(_ALIVE, np.array([np.nan, 2.0])) == [
        Decision("g0", "diversity", False, "others already cover it"),
        Decision("g1", "diversity", True, "", score=2.0),
    ]


def test_no_number_is_nothing() -> None:
    assert (as_number(float("nan")), as_number(0.5)) == (None, 0.5)


def test_an_answer_goes_for_a_better_one_or_because_it_cannot_be_judged() -> None:
    askings, scores, kept = np.array([7, 7]), np.array([1.0, 2.0]), np.array([False, True])
    assert decisions_from_scores(_ALIVE, askings, scores, kept) == [
        Decision("g0", "best_of", False, "another answer is better", "g1", 3, 1.0),
        Decision("g1", "best_of", True, "", score=2.0),
    ]
    (lost, _) = decisions_from_scores(_ALIVE, np.array([1, 2]), np.array([np.nan, 2.0]), kept)
    assert lost == Decision("g0", "best_of", False, "cannot be judged")
