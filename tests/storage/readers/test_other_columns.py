"""Columns beside the text: what a file holds is what the table holds, whatever the types of its values."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.artifacts.parquet_io import write_parquet
from storage.readers.base import Columns
from storage.readers.other_columns import ROW, read_other_columns

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(["2026-01-02", "1", "null", "\ud800"]),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda some: st.one_of(st.lists(some, max_size=3), st.dictionaries(st.sampled_from("xy"), some, max_size=2)),
)
_ROWS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "the c", "id"]), _VALUES, max_size=4), min_size=1, max_size=5
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(_ROWS, min_size=1, max_size=3))
def test_every_value_of_json_reads_back_equal(files: list[list[dict[str, object]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.mkdir()
        for number, rows in enumerate(files):
            lines = [json.dumps({"text": "words", **row}) + "\n" for row in rows]
            (source / f"{number}.jsonl").write_text("".join(lines))
        numbers = {f"{number}.jsonl": np.arange(len(rows)) for number, rows in enumerate(files)}
        read = read_other_columns(str(source), Columns(), numbers)
        write_parquet(read.drop_columns(ROW).append_column("row", read[ROW]), Path(folder, "others.parquet"))
        table = pq.read_table(Path(folder, "others.parquet"))
    assert table["row"].to_pylist() == [number for rows in files for number in range(len(rows))]
    written = [row for rows in files for row in rows]
    for name in table.column_names[:-1]:
        is_json = table.schema.field(name).type == pa.json_(pa.string())
        for value, row in zip(table[name].to_pylist(), written, strict=True):
            expected = row.get(name)
            assert (json.loads(value) if is_json and value is not None else value) == expected
    assert {name for row in written for name in row} == {*table.column_names} - {"row"}


def test_columns_that_share_a_name_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n,more,n\none,1,x,2\n")
    read = read_other_columns(str(tmp_path / "a.csv"), Columns(), {"a.csv": np.array([0])})
    assert read.to_pydict() == {"more": ["x"], ROW: [0]}
