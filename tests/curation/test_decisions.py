import numpy as np
import pyarrow as pa
import pytest

from curation.decisions import (
    EMPTY_RECORDS,
    DuplicateMatches,
    FilterResult,
    InvalidFilterResultError,
    RecordSet,
    decision_table,
)

_RECORDS = RecordSet(["g0", "g1"], ["a", "b"], [3, 3])
_KNOWN = RecordSet(["h0"], ["c"], [0])
_NAN = float("nan")


def _rows(filter_name: str, result: FilterResult, records: RecordSet = _RECORDS) -> list[tuple[object, ...]]:
    table = decision_table(filter_name, records, result)
    return [tuple(row.values()) for row in table.to_pylist()]


def test_records_are_taken_by_row_and_excluded_by_id() -> None:
    assert _RECORDS.take(np.array([1])) == RecordSet(["g1"], ["b"], [3])
    assert _RECORDS.exclude(["g1", "unknown"]) == RecordSet(["g0"], ["a"], [3])
    assert RecordSet(["g0", "g1", "g2"], ["a", "b", "c"], [2, 2, 2]).take(np.array([2, 0])) == RecordSet(
        ["g2", "g0"], ["c", "a"], [2, 2]
    )


def test_records_hold_what_a_table_of_several_chunks_holds() -> None:
    parts = [
        pa.table({"id": [name], "text": [text], "source_generation": pa.array([3], pa.int32())})
        for name, text in (("g0", "a"), ("g1", "b"))
    ]
    assert RecordSet.from_table(pa.concat_tables(parts)) == _RECORDS
    assert len(RecordSet.from_table(parts[0].slice(1))) == len(EMPTY_RECORDS) == 0


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert RecordSet(["g0"], ["one \ud800 two"], [1]).text_list == ["one ? two"]


def test_a_duplicate_names_the_record_that_is_kept_instead() -> None:
    matches = DuplicateMatches(np.array([0, 1]), np.array([0.8, 0.9]), np.array([_NAN, 0.7]))
    assert _rows("exact", FilterResult.from_duplicates(matches, _RECORDS, _KNOWN, "exact duplicate")) == [
        ("g0", "exact", False, "exact duplicate", 0.8, "h0", 0, None),
        ("g1", "exact", False, "exact duplicate", 0.9, "g0", 3, 0.7),
    ]


def test_a_record_is_kept_where_the_reason_is_empty() -> None:
    result = FilterResult(reason=["", "holds one"], score=np.array([0.0, 1.0]))
    assert result.kept.tolist() == [True, False]
    assert _rows("pii", result) == [
        ("g0", "pii", True, "", 0.0, None, None, None),
        ("g1", "pii", False, "holds one", 1.0, None, None, None),
    ]
    assert FilterResult(reason=[]).kept.tolist() == []


def test_a_record_without_a_gain_was_not_selected() -> None:
    assert _rows("diversity", FilterResult.from_selection(np.array([_NAN, 2.0]))) == [
        ("g0", "diversity", False, "others already cover it", None, None, None, None),
        ("g1", "diversity", True, "", 2.0, None, None, None),
    ]


def test_a_completion_names_the_better_one_to_its_prompt() -> None:
    prompts, scores, kept = np.array([5, 5]), np.array([1.0, 2.0]), np.array([False, True])
    assert _rows("best_of", FilterResult.from_scores(_RECORDS, prompts, scores, kept)) == [
        ("g0", "best_of", False, "another answer is better", 1.0, "g1", 3, None),
        ("g1", "best_of", True, "", 2.0, None, None, None),
    ]


def test_a_completion_without_a_score_cannot_be_judged() -> None:
    records = RecordSet(["g0", "g1", "g2"], ["a", "b", "c"], [3, 3, 3])
    scores, kept = np.array([_NAN, 2.0, _NAN]), np.array([False, True, False])
    assert _rows("best_of", FilterResult.from_scores(records, np.array([1, 2, 2]), scores, kept), records) == [
        ("g0", "best_of", False, "cannot be judged", None, None, None, None),
        ("g1", "best_of", True, "", 2.0, None, None, None),
        ("g2", "best_of", False, "cannot be judged", None, "g1", 3, None),
    ]
    nothing_kept = FilterResult.from_scores(records, np.array([1, 2, 2]), np.full(3, _NAN), np.zeros(3, bool))
    assert nothing_kept.reason.to_pylist() == ["cannot be judged"] * 3
    assert len(FilterResult.from_scores(EMPTY_RECORDS, np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))) == 0


def test_records_are_dropped_where_a_mask_is_true() -> None:
    result = FilterResult.drop_where(pa.chunked_array([[True], [None]], pa.bool_()), "too long", [3, 4])
    assert (result.reason.to_pylist(), result.score.to_pylist()) == (["too long", ""], [3.0, 4.0])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"reason": [1, 2]}, "`reason` must be a column of strings"),
        ({"reason": "no"}, "`reason` must be a column of strings: found one str"),
        ({"reason": ["", None]}, "`reason` has nulls"),
        ({"reason": ["", ""], "score": ["high", "low"]}, "`score` must be a column of doubles"),
        ({"reason": ["", ""], "score": [1.0]}, "`score` has 1 rows and `reason` 2"),
    ],
)
def test_columns_of_the_wrong_type_or_length_are_refused(columns: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidFilterResultError, match=message):
        FilterResult(**columns)


def test_a_text_with_a_representative_is_dropped() -> None:
    matches = DuplicateMatches(np.array([-1, 0, -1]), np.array([np.nan, 1.0, 0.5]), np.full(3, np.nan))
    assert matches.kept.tolist() == [True, False, True]
