import pyarrow as pa

from curation.metrics.settings import Measured
from tasks.evaluation.inputs import metric_rows, sample_by_id


def test_a_sample_is_chosen_by_ids_alone() -> None:
    table = pa.table({"id": [f"r{place}" for place in range(100)], "text": ["x"] * 100})
    some = sample_by_id(table, 20)["id"].to_pylist()
    assert len(set(some)) == 20
    assert sample_by_id(table.take(list(reversed(range(100)))), 20)["id"].to_pylist() == some[::-1]
    # What two tables share, their samples share.
    half = set(sample_by_id(table.slice(0, 50), 20)["id"].to_pylist())
    assert {one for one in some if int(one[1:]) < 50} <= half
    assert sample_by_id(table, 100).equals(table)


def test_what_is_no_number_is_null() -> None:
    (row,) = metric_rows("model", [Measured("vocabulary_size", float("nan"), None, 1.0, 3)], "letters")
    assert (row["value"], row["low"], row["high"], row["source"]) == (None, None, 1.0, "letters")
