"""Schemas and ids of records."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.artifacts import schemas as records
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import derive_seed, human_id, synthetic_id, text_hash

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
        "CHECK_RESULTS",
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


def test_a_digest_is_of_the_text_as_it_stands() -> None:
    assert text_hash("héllo") == "3c48591d8d098a4538f5e013dfcf406e"
    assert text_hash("héllo") != text_hash("Héllo")
    assert text_hash("\ud800") != text_hash("\ud801")


def test_a_human_id_follows_from_the_text_alone() -> None:
    assert human_id("héllo") == "h-3c48591d8d098a45"


def test_a_synthetic_id_contains_generation_attempt_and_number() -> None:
    assert synthetic_id(3, 1, 12) == "g003-0000012"
    assert synthetic_id(3, 2, 12) == "g003a2-0000012"
    places = [
        (generation, attempt, serial) for generation in range(12) for attempt in (1, 2, 11) for serial in (0, 1, 10)
    ]
    assert len({synthetic_id(*place) for place in places}) == len(places)


def test_a_seed_is_the_same_everywhere_and_below_two_to_the_31() -> None:
    assert derive_seed(0, "train", 1) == 1312450192
    assert derive_seed("a", "b") == 125259203
    seeds = {derive_seed("candidate", number) for number in range(2000)}
    assert len(seeds) == 2000
    assert 0 <= min(seeds) < 2**31 // 10
    assert 2**31 - 2**31 // 10 < max(seeds) < 2**31


def test_the_order_and_the_kind_of_its_parts_change_a_seed() -> None:
    assert len({derive_seed(1, 2), derive_seed(2, 1), derive_seed(12), derive_seed("1", 2), derive_seed(1, 2, 0)}) == 5
