from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from storage.index.partitioned_scratch import PartitionedScratch, discard, scratch
from storage.runs.run import BusyError

_SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


def _table(numbers: range) -> pa.Table:
    return pa.table({"n": list(numbers), "text": [str(n) for n in numbers]}, schema=_SCHEMA)


def test_a_bucket_holds_its_rows_in_order_of_their_blocks(tmp_path: Path) -> None:
    spill = PartitionedScratch(tmp_path / "a", _SCHEMA, 4)
    for block, numbers in ((1, range(10, 20)), (0, range(10))):
        spill.write(block, _table(numbers), np.array([n % 4 for n in numbers]))
    assert spill.read([3])["n"].to_pylist() == [3, 7, 11, 15, 19]
    assert spill.read([3], ["text"]).to_pydict() == {"text": ["3", "7", "11", "15", "19"]}
    assert sorted(n for table in spill.iter_batches() for n in table["n"].to_pylist()) == list(range(20))


def test_a_spill_without_rows_is_read_as_empty(tmp_path: Path) -> None:
    spill = PartitionedScratch(tmp_path / "a", _SCHEMA, 4)
    spill.write(0, _SCHEMA.empty_table(), np.zeros(0, np.int64))
    assert spill.read([2]).schema == _SCHEMA
    assert spill.read([2]).num_rows == 0
    assert list(spill.iter_batches()) == []


def test_scratch_is_cleared_before_and_removed_after(tmp_path: Path) -> None:
    folder = tmp_path / "human" / "letters" / ".ingest"
    folder.mkdir(parents=True)
    (folder / "left by a killed process").write_text("x")
    with scratch(folder) as empty:
        assert list(empty.iterdir()) == []
        (empty / "mine").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_two_processes_cannot_use_one_scratch(tmp_path: Path) -> None:
    folder = tmp_path / "human" / "letters" / ".ingest"
    with scratch(folder), pytest.raises(BusyError, match="another process is at work"), scratch(folder):
        pass


def test_spans_cover_every_bucket_once_and_are_smaller_where_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = PartitionedScratch(tmp_path / "a", _SCHEMA, 8)
    spill.write(0, _table(range(1000)), np.arange(1000) % 8)
    assert spill.spans_in_memory() == [range(8)]
    monkeypatch.setattr("storage.index.partitioned_scratch._SPAN_BYTES", 5000)
    spans = spill.spans_in_memory()
    assert len(spans) > 1
    assert [bucket for span in spans for bucket in span] == list(range(8))
    assert sum(spill.read(span).num_rows for span in spans) == 1000


def test_a_folder_is_removed_with_the_empty_one_it_is_in(tmp_path: Path) -> None:
    for name in ("a/one", "a/two"):
        (tmp_path / name).mkdir(parents=True)
    discard(tmp_path / "a" / "one")
    assert (tmp_path / "a" / "two").is_dir()
    discard(tmp_path / "a" / "two")
    assert list(tmp_path.iterdir()) == []
