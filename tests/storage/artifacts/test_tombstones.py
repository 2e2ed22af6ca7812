from pathlib import Path

import pyarrow as pa
import pytest

from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.parquet_io import DamagedError
from storage.artifacts.seals import TOMBSTONES_FILE
from storage.artifacts.tombstones import add_tombstones, read_tombstones, tombstoned_hashes
from storage.query.catalog import open_catalog


def _reserve(root: Path) -> Path:
    artifact = Artifact(root / "human/letters/snapshot=1/human_train", {})
    with artifact.draft() as draft:
        draft.write_part(pa.table({"id": ["h-1", "h-2"], "text": ["one", "two"], "text_hash": ["aa", "bb"]}))
    return artifact.folder


def test_a_store_begins_without_tombstones(tmp_path: Path) -> None:
    assert read_tombstones(tmp_path) == []
    assert len(tombstoned_hashes(_reserve(tmp_path))) == 0


def test_a_text_is_buried_once(tmp_path: Path) -> None:
    add_tombstones(tmp_path, {"h-1": "aa"}, "license withdrawn")
    add_tombstones(tmp_path, {"other": "aa", "h-2": "bb"}, "")
    stored = [(one.id, one.text_hash, one.reason) for one in read_tombstones(tmp_path)]
    assert stored == [("h-1", "aa", "license withdrawn"), ("h-2", "bb", "")]


def test_a_buried_text_is_left_out_of_what_is_read(tmp_path: Path) -> None:
    folder = _reserve(tmp_path)
    add_tombstones(tmp_path, {"h-1": "aa"}, "")
    assert read_table(folder).to_pylist() == [{"id": "h-2", "text": "two", "text_hash": "bb"}]
    assert read_table(folder, ["text"]).to_pylist() == [{"text": "two"}]


def test_tombstones_that_cannot_be_read_stop_everything_that_reads_texts(tmp_path: Path) -> None:
    folder = _reserve(tmp_path)
    add_tombstones(tmp_path, {"h-1": "aa"}, "")
    (tmp_path / TOMBSTONES_FILE).write_text('{"id": "h-1"')
    for reading in (
        lambda: read_table(folder),
        lambda: open_catalog(tmp_path),
        lambda: add_tombstones(tmp_path, {}, ""),
    ):
        with pytest.raises(DamagedError, match="lists the texts that must not be used"):
            reading()
    assert (tmp_path / TOMBSTONES_FILE).read_text() == '{"id": "h-1"'
