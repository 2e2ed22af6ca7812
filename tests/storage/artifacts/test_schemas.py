from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.artifacts import schemas as records
from storage.artifacts.artifact import Artifact, read_table

SCHEMAS = {name: value for name, value in vars(records).items() if isinstance(value, pa.Schema)}
_VALUES = {"string": "héllo 👋", "int32": 7, "int64": 2**40, "double": 0.1, "bool": True}


def _row(schema: pa.Schema) -> dict[str, object]:
    def value(kind: pa.DataType) -> object:
        if pa.types.is_list(kind):
            return ["h-1", "h-2"] if kind.value_type == pa.string() else [value(kind.value_type)] * 2
        if pa.types.is_map(kind):
            return [("tone", "plain"), ("subject", "river")]
        if pa.types.is_struct(kind):
            return {inner.name: value(inner.type) for inner in kind}
        return _VALUES[str(kind)]

    return {column.name: value(column.type) for column in schema}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_table_of_every_schema_comes_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    schema = SCHEMAS[name]
    rows = [_row(schema), dict.fromkeys(schema.names), _row(schema)]
    table = pa.Table.from_pylist(rows, schema=schema)
    with Artifact(tmp_path / "table", {}).draft() as draft:
        draft.write_part(table)
    found = read_table(tmp_path / "table")
    assert found.schema.equals(schema)
    assert found.equals(table)
    assert pq.read_metadata(tmp_path / "table" / "part-00000.parquet").row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_empty_table_of_every_schema_keeps_its_columns(name: str, tmp_path: Path) -> None:
    with Artifact(tmp_path / "table", {}).draft() as draft:
        draft.write_part(SCHEMAS[name].empty_table())
    assert read_table(tmp_path / "table").schema.equals(SCHEMAS[name])


def test_there_is_a_schema_for_every_kind_of_row() -> None:
    assert set(SCHEMAS) == {
        "HUMAN_RECORDS",
        "REJECTED_DOCUMENTS",
        "CANDIDATES",
        "DECISIONS",
        "CORPUS",
        "EVAL_SAMPLES",
        "METRICS",
        "GATE_RESULTS",
        "TRAINING",
        "CONTAMINATION_REPORT",
        "EVAL_EXPOSURES",
        "TOPICS",
        "PAIRS",
        "SCORES",
        "FORECAST",
        "COLLAPSE_TESTS",
    }
