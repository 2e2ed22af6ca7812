from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from curation.splitting import IngestSettings, is_held_out
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.artifacts.tombstones import to_string_array
from storage.readers.base import Block, Document
from tasks.ingestion.dedup import DedupResult
from tasks.ingestion.read import BlockBatch, ScratchTables, read_blocks
from tasks.ingestion.split import (
    OUTPUTS,
    REJECTED,
    SPLITS,
    PartWriter,
    SplitRules,
    existing_split_by_group,
    split_and_write,
)
from tests.conftest import human_texts

_NO_GROUPS: dict[str, list[str]] = {split: [] for split in SPLITS}
_UNLIMITED: dict[str, int | None] = dict.fromkeys(SPLITS)


def _split(
    folder: Path,
    settings: IngestSettings,
    existing_groups: Mapping[str, Sequence[str]] = _NO_GROUPS,
    capacity: Mapping[str, int | None] = _UNLIMITED,
    erased: Sequence[str] = (),
) -> dict[str, pa.Table]:
    """Split 200 records of 10 files; returns the tables by output."""
    tables = ScratchTables.in_folder(folder)
    documents = [Document(text, f"file {row % 10}", row) for row, text in enumerate(human_texts(200))]
    read_blocks(tables, settings, BlockBatch(number=1, blocks=[Block("", 0, documents, "documents")]))
    rules = SplitRules(
        settings=settings,
        existing_groups=existing_groups,
        capacity=capacity,
        erased_hashes=to_string_array(erased),
    )
    results = {}
    for output in OUTPUTS:
        with Artifact(folder / output, {}).draft() as draft:
            writers = {name: PartWriter(draft if name == output else None, _schema(name)) for name in OUTPUTS}
            split_and_write(DedupResult(records=tables.records), rules, writers, lambda *_: None)
            for writer in writers.values():
                writer.close()
        results[output] = read_table(folder / output)
    return results


def _schema(output: str) -> pa.Schema:
    return REJECTED_DOCUMENTS if output == REJECTED else HUMAN_RECORDS


def test_records_are_sorted_by_text_hash_and_split_by_it(tmp_path: Path) -> None:
    tables = _split(tmp_path, IngestSettings())
    for split in SPLITS:
        hashes = tables[split]["text_hash"].to_pylist()
        assert hashes == sorted(hashes)
        assert tables[split]["split_group"].to_pylist() == hashes
    assert sum(tables[split].num_rows for split in SPLITS) == 200
    assert all(is_held_out(text_hash, 0.15) for text_hash in tables["human_heldout"]["text_hash"].to_pylist())


def test_an_erased_text_is_rejected(tmp_path: Path) -> None:
    complete = _split(tmp_path / "complete", IngestSettings())
    erased = complete["human_train"]["text_hash"][0].as_py()
    tables = _split(tmp_path / "erased", IngestSettings(), erased=[erased])
    assert tables["human_train"]["text_hash"].to_pylist() == complete["human_train"]["text_hash"].to_pylist()[1:]
    rejected = tables[REJECTED].to_pylist()
    assert [(row["filter"], row["reason"]) for row in rejected] == [("erase", "erased text")]


def test_records_beyond_the_capacity_are_rejected_in_order_of_their_hash(tmp_path: Path) -> None:
    complete = _split(tmp_path / "complete", IngestSettings())
    limited = _split(tmp_path / "limited", IngestSettings(), capacity={"human_train": 7, "human_heldout": 0})
    assert limited["human_train"]["text_hash"].to_pylist() == complete["human_train"]["text_hash"].to_pylist()[:7]
    assert limited["human_heldout"].num_rows == 0
    assert limited[REJECTED].num_rows == 193
    assert set(limited[REJECTED]["reason"].to_pylist()) == {
        "`max_train_records` reached",
        "`max_heldout_records` reached",
    }


def test_a_source_stays_in_the_split_that_it_has(tmp_path: Path) -> None:
    settings = IngestSettings(split_by="source", heldout_fraction=0.5)
    new = _split(tmp_path / "1", settings)
    sources = {split: sorted(set(new[split]["source"].to_pylist())) for split in SPLITS}
    assert all(sources.values())
    swapped = {"human_train": sources["human_heldout"], "human_heldout": sources["human_train"]}
    existing = _split(tmp_path / "2", settings, existing_groups=swapped)
    assert {split: sorted(set(existing[split]["source"].to_pylist())) for split in SPLITS} == swapped
    assert existing_split_by_group({split: tmp_path / "2" / split for split in SPLITS}, settings) == swapped
    assert existing_split_by_group({}, settings) == _NO_GROUPS


def test_columns_that_an_older_part_lacks_are_null(tmp_path: Path) -> None:
    old_schema = pa.schema([field for field in HUMAN_RECORDS if field.name not in ("document_id", "messages")])
    with Artifact(tmp_path / "old", {}).draft() as draft:
        draft.write_part(pa.Table.from_pylist([{"id": "h-1", "text": "x"}], schema=old_schema))
    with Artifact(tmp_path / "new", {}).draft() as draft:
        writer = PartWriter(draft, HUMAN_RECORDS)
        writer.copy_from(tmp_path / "old")
        writer.close()
    copied = read_table(tmp_path / "new")
    assert copied.schema.equals(HUMAN_RECORDS)
    assert copied.to_pylist()[0]["messages"] is None


@pytest.mark.parametrize("num_rows", [0, 5])
def test_an_artifact_has_at_least_one_part(tmp_path: Path, num_rows: int) -> None:
    with Artifact(tmp_path / "records", {}).draft() as draft:
        writer = PartWriter(draft, HUMAN_RECORDS)
        rows = [{"id": f"h-{row}", "text": "x"} for row in range(num_rows)]
        writer.append(pa.Table.from_pylist(rows, schema=HUMAN_RECORDS))
        writer.close()
    assert read_table(tmp_path / "records").num_rows == num_rows
    assert len(list((tmp_path / "records").glob("part-*.parquet"))) == 1
