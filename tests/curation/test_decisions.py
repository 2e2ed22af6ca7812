import numpy as np

from curation.decisions import (
    Decision,
    Duplicates,
    Faults,
    Known,
    as_number,
    by_duplicates,
    by_faults,
    by_gains,
    by_scores,
)

_ALIVE = Known(["g0", "g1"], ["a", "b"], [3, 3])
_KNOWN = Known(["h0"], ["c"], [0])


def test_records_are_taken_by_place_and_left_out_by_id() -> None:
    assert _ALIVE.rows(np.array([1])) == Known(["g1"], ["b"], [3])
    assert _ALIVE.without(["g1", "nobody"]) == Known(["g0"], ["a"], [3])


def test_keepers_are_named_over_known_and_alive_together() -> None:
    answer = Duplicates(np.array([0, 1]), np.array([0.8, 0.9]), np.array([np.nan, 0.7]))
    assert by_duplicates("exact", _ALIVE, _KNOWN, answer) == [
        Decision("g0", "exact", False, "says the same", "h0", 0, 0.8, None),
        Decision("g1", "exact", False, "says the same", "g0", 3, 0.9, 0.7),
    ]


def test_a_fault_is_the_reason() -> None:
    assert by_faults("pii", _ALIVE, Faults(["", "holds one"], np.array([0.0, 1.0]))) == [
        Decision("g0", "pii", True, "", evidence=0.0),
        Decision("g1", "pii", False, "holds one", evidence=1.0),
    ]


def test_without_a_gain_others_already_cover_it() -> None:
    assert by_gains(_ALIVE, np.array([np.nan, 2.0])) == [
        Decision("g0", "diversity", False, "others already cover it"),
        Decision("g1", "diversity", True, "", evidence=2.0),
    ]


def test_no_number_is_nothing() -> None:
    assert (as_number(float("nan")), as_number(0.5)) == (None, 0.5)


def test_an_answer_goes_for_a_better_one_or_because_it_cannot_be_judged() -> None:
    askings, scores, kept = np.array([7, 7]), np.array([1.0, 2.0]), np.array([False, True])
    assert by_scores(_ALIVE, askings, scores, kept) == [
        Decision("g0", "best_of", False, "another answer is better", "g1", 3, 1.0),
        Decision("g1", "best_of", True, "", evidence=2.0),
    ]
    (lost, _) = by_scores(_ALIVE, np.array([1, 2]), np.array([np.nan, 2.0]), kept)
    assert lost == Decision("g0", "best_of", False, "cannot be judged")
