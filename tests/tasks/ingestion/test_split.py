from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from curation.splitting import IngestSettings, is_held_out
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.artifacts.tombstones import to_string_array
from storage.readers.base import Block, Document
from tasks.ingestion.dedup import DedupResult
from tasks.ingestion.read import ScratchTables, read_blocks
from tasks.ingestion.split import SIDES, PartWriter, existing_split_by_group, split_and_write
from tests.conftest import human_texts

_NOWHERE: dict[str, list[str]] = {side: [] for side in SIDES}


def _settled(
    folder: Path,
    settings: IngestSettings,
    placed: dict[str, list[str]],
    room: dict[str, int | None],
    forgotten: Sequence[str] = (),
) -> dict[str, pa.Table]:
    spills = ScratchTables.in_folder(folder)
    rows = [Document(text, f"file {place % 10}", place) for place, text in enumerate(human_texts(200))]
    read_blocks(spills, settings, (1, [Block("", 0, rows, "documents")]))
    tables = {}
    artifacts = {side: Artifact(folder / side, {}) for side in (*SIDES, "rejected_documents")}
    for name, artifact in artifacts.items():
        with artifact.draft() as draft:
            written = {side: PartWriter(draft if side == name else None, _schema(side)) for side in artifacts}
            split_and_write(
                DedupResult(spills.records),
                placed,
                room,
                settings,
                to_string_array(forgotten),
                written,
                lambda *_: None,
            )
            for parts in written.values():
                parts.close()
        tables[name] = read_table(artifact.folder)
    return tables


def _schema(side: str) -> pa.Schema:
    return REJECTED_DOCUMENTS if side == "rejected_documents" else HUMAN_RECORDS


def test_records_lie_in_order_of_their_digest(tmp_path: Path) -> None:
    tables = _settled(tmp_path, IngestSettings(), _NOWHERE, {"human_train": None, "human_heldout": None})
    for side in SIDES:
        digests = tables[side]["text_hash"].to_pylist()
        assert digests == sorted(digests)
        assert tables[side]["split_group"].to_pylist() == digests
    assert sum(tables[side].num_rows for side in SIDES) == 200
    assert all(is_held_out(digest, 0.15) for digest in tables["human_heldout"]["text_hash"].to_pylist())


def test_what_was_forgotten_is_set_aside(tmp_path: Path) -> None:
    everyone = _settled(tmp_path / "all", IngestSettings(), _NOWHERE, {"human_train": None, "human_heldout": None})
    gone = everyone["human_train"]["text_hash"][0].as_py()
    rest = _settled(tmp_path / "rest", IngestSettings(), _NOWHERE, {"human_train": None, "human_heldout": None}, [gone])
    assert rest["human_train"]["text_hash"].to_pylist() == everyone["human_train"]["text_hash"].to_pylist()[1:]
    assert [(row["filter"], row["reason"]) for row in rest["rejected_documents"].to_pylist()] == [
        ("forget", "was forgotten")
    ]


def test_the_first_by_digest_have_room(tmp_path: Path) -> None:
    everyone = _settled(tmp_path / "all", IngestSettings(), _NOWHERE, {"human_train": None, "human_heldout": None})
    few = _settled(tmp_path / "few", IngestSettings(), _NOWHERE, {"human_train": 7, "human_heldout": 0})
    assert few["human_train"]["text_hash"].to_pylist() == everyone["human_train"]["text_hash"].to_pylist()[:7]
    assert few["human_heldout"].num_rows == 0
    assert few["rejected_documents"].num_rows == 193
    assert set(few["rejected_documents"]["reason"].to_pylist()) == {
        "the human_train is full",
        "the human_heldout is full",
    }


def test_a_source_stays_on_the_side_it_is_on(tmp_path: Path) -> None:
    settings = IngestSettings(split_by="source", heldout_fraction=0.5)
    free = _settled(tmp_path / "1", settings, _NOWHERE, {"human_train": None, "human_heldout": None})
    sides = {side: sorted(set(free[side]["source"].to_pylist())) for side in SIDES}
    assert all(sides.values())
    swapped = {"human_train": sides["human_heldout"], "human_heldout": sides["human_train"]}
    moved = _settled(tmp_path / "2", settings, swapped, {"human_train": None, "human_heldout": None})
    assert {side: sorted(set(moved[side]["source"].to_pylist())) for side in SIDES} == swapped
    assert existing_split_by_group({side: tmp_path / "2" / side for side in SIDES}, settings) == swapped
    assert existing_split_by_group({}, settings) == _NOWHERE


def test_parts_of_an_older_heirloom_get_the_columns_they_lack(tmp_path: Path) -> None:
    old = pa.schema([field for field in HUMAN_RECORDS if field.name not in ("document_id", "messages")])
    with Artifact(tmp_path / "old", {}).draft() as draft:
        draft.write_part(pa.Table.from_pylist([{"id": "h-1", "text": "x"}], schema=old))
    with Artifact(tmp_path / "new", {}).draft() as draft:
        parts = PartWriter(draft, HUMAN_RECORDS)
        parts.copy_from(tmp_path / "old")
        parts.close()
    found = read_table(tmp_path / "new")
    assert found.schema.equals(HUMAN_RECORDS)
    assert found.to_pylist()[0]["messages"] is None
