from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from curation.splitting import IngestSettings, is_held_out
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import RESERVE, SET_ASIDE
from storage.artifacts.tombstones import digest_array
from storage.readers.base import Block, Document
from tasks.ingestion.dedup import Found
from tasks.ingestion.read import Spills, read_blocks
from tasks.ingestion.split import SIDES, Parts, placed_sources, settle
from tests.conftest import human_texts

_NOWHERE: dict[str, list[str]] = {side: [] for side in SIDES}


def _settled(
    folder: Path,
    settings: IngestSettings,
    placed: dict[str, list[str]],
    room: dict[str, int | None],
    forgotten: Sequence[str] = (),
) -> dict[str, pa.Table]:
    spills = Spills.under(folder)
    rows = [Document(text, f"file {place % 10}", place) for place, text in enumerate(human_texts(200))]
    read_blocks(spills, settings, (1, [Block("", 0, rows, "documents")]))
    tables = {}
    artifacts = {side: Artifact(folder / side, {}) for side in (*SIDES, "set_aside")}
    for name, artifact in artifacts.items():
        with artifact.draft() as draft:
            written = {side: Parts(draft if side == name else None, _schema(side)) for side in artifacts}
            settle(Found(spills.found), placed, room, settings, digest_array(forgotten), written, lambda *_: None)
            for parts in written.values():
                parts.finish()
        tables[name] = read_table(artifact.folder)
    return tables


def _schema(side: str) -> pa.Schema:
    return SET_ASIDE if side == "set_aside" else RESERVE


def test_records_lie_in_order_of_their_digest(tmp_path: Path) -> None:
    tables = _settled(tmp_path, IngestSettings(), _NOWHERE, {"reserve": None, "heldout": None})
    for side in SIDES:
        digests = tables[side]["digest"].to_pylist()
        assert digests == sorted(digests)
        assert tables[side]["group"].to_pylist() == digests
    assert sum(tables[side].num_rows for side in SIDES) == 200
    assert all(is_held_out(digest, 0.15) for digest in tables["heldout"]["digest"].to_pylist())


def test_what_was_forgotten_is_set_aside(tmp_path: Path) -> None:
    everyone = _settled(tmp_path / "all", IngestSettings(), _NOWHERE, {"reserve": None, "heldout": None})
    gone = everyone["reserve"]["digest"][0].as_py()
    rest = _settled(tmp_path / "rest", IngestSettings(), _NOWHERE, {"reserve": None, "heldout": None}, [gone])
    assert rest["reserve"]["digest"].to_pylist() == everyone["reserve"]["digest"].to_pylist()[1:]
    assert [(row["stage"], row["reason"]) for row in rest["set_aside"].to_pylist()] == [("forget", "was forgotten")]


def test_the_first_by_digest_have_room(tmp_path: Path) -> None:
    everyone = _settled(tmp_path / "all", IngestSettings(), _NOWHERE, {"reserve": None, "heldout": None})
    few = _settled(tmp_path / "few", IngestSettings(), _NOWHERE, {"reserve": 7, "heldout": 0})
    assert few["reserve"]["digest"].to_pylist() == everyone["reserve"]["digest"].to_pylist()[:7]
    assert few["heldout"].num_rows == 0
    assert few["set_aside"].num_rows == 193
    assert set(few["set_aside"]["reason"].to_pylist()) == {"the reserve is full", "the heldout is full"}


def test_a_source_stays_on_the_side_it_is_on(tmp_path: Path) -> None:
    settings = IngestSettings(split_by="source", heldout_fraction=0.5)
    free = _settled(tmp_path / "1", settings, _NOWHERE, {"reserve": None, "heldout": None})
    sides = {side: sorted(set(free[side]["source"].to_pylist())) for side in SIDES}
    assert all(sides.values())
    swapped = {"reserve": sides["heldout"], "heldout": sides["reserve"]}
    moved = _settled(tmp_path / "2", settings, swapped, {"reserve": None, "heldout": None})
    assert {side: sorted(set(moved[side]["source"].to_pylist())) for side in SIDES} == swapped
    assert placed_sources({side: tmp_path / "2" / side for side in SIDES}, settings) == swapped
    assert placed_sources({}, settings) == _NOWHERE


def test_parts_of_an_older_heirloom_get_the_columns_they_lack(tmp_path: Path) -> None:
    old = pa.schema([field for field in RESERVE if field.name not in ("document", "messages")])
    with Artifact(tmp_path / "old", {}).draft() as draft:
        draft.write_part(pa.Table.from_pylist([{"id": "h-1", "text": "x"}], schema=old))
    with Artifact(tmp_path / "new", {}).draft() as draft:
        parts = Parts(draft, RESERVE)
        parts.carry(tmp_path / "old")
        parts.finish()
    found = read_table(tmp_path / "new")
    assert found.schema.equals(RESERVE)
    assert found.to_pylist()[0]["messages"] is None
