import pyarrow as pa

from curation.metrics.settings import Measured
from tasks.evaluation.inputs import metric_rows, sample_by_id


def test_a_sample_depends_on_ids_alone() -> None:
    table = pa.table({"id": [f"r{number}" for number in range(100)], "text": ["x"] * 100})
    sample = sample_by_id(table, 20)["id"].to_pylist()
    assert len(set(sample)) == 20
    assert sample_by_id(table.take(list(reversed(range(100)))), 20)["id"].to_pylist() == sample[::-1]
    # Sampled records that are also in a smaller table are in its sample.
    half = set(sample_by_id(table.slice(0, 50), 20)["id"].to_pylist())
    assert {record_id for record_id in sample if int(record_id[1:]) < 50} <= half
    assert sample_by_id(table, 100).equals(table)


def test_values_that_are_not_finite_are_null() -> None:
    (row,) = metric_rows("model", [Measured("vocabulary_size", float("nan"), None, 1.0, 3)], "letters")
    assert (row["value"], row["low"], row["high"], row["source"]) == (None, None, 1.0, "letters")
