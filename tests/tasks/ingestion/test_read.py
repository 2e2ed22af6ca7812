from pathlib import Path

import pytest

from curation.chat import as_turns, parse
from curation.splitting import IngestSettings, is_held_out
from storage.artifacts.ids import text_digest
from storage.readers.base import Block, Document
from tasks.ingestion.read import BUCKETS, Harvest, Spills, columns_of, keep_former_keys, read_blocks


def _read(folder: Path, rows: list[Document], settings: IngestSettings, serial: int = 1) -> tuple[Harvest, Spills]:
    spills = Spills.under(folder)
    return read_blocks(spills, settings, (serial, [Block("", 0, rows, "documents")])), spills


def _found(spills: Spills) -> list[dict[str, object]]:
    return sorted((row for table in spills.found.batches() for row in table.to_pylist()), key=lambda row: row["order"])


def test_a_record_is_numbered_and_lies_in_the_bucket_of_its_digest(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(300)]
    rows = [Document(text, "a", place) for place, text in enumerate(texts)]
    harvest, spills = _read(tmp_path, rows, IngestSettings(), serial=2)
    assert (harvest.documents, harvest.unread, harvest.reasons) == ({"": 300}, {}, {})
    found = _found(spills)
    assert [row["order"] for row in found] == [(2 << 32) + number for number in range(300)]
    assert [(row["text"], row["digest"]) for row in found] == [(text, text_digest(text)) for text in texts]
    assert all(row["heldout"] == is_held_out(str(row["digest"]), 0.15) for row in found)
    for bucket in range(BUCKETS):
        digests = spills.found.read([bucket], ["digest"])["digest"].to_pylist()
        assert all(int(digest[:2], 16) >> 1 == bucket for digest in digests)


def test_a_document_that_gives_no_record_has_its_reason(tmp_path: Path) -> None:
    rows = [
        Document("", "a", 0, reason="not JSON"),
        Document("?!", "a", 1),
        Document([7], "a", 2),
        Document([], "a", 3, response="so"),
        Document("fine \ud800", "a", 4, document="x"),
    ]
    harvest, spills = _read(tmp_path, rows, IngestSettings())
    assert harvest.reasons == {"not JSON": 1, "holds no word": 1, "not a conversation": 1, "not a prompt": 1}
    assert (harvest.documents, harvest.unread[""]) == ({"": 5}, 1)
    assert [(row["text"], row["document"]) for row in _found(spills)] == [("fine ?", "x")]
    (aside,) = spills.aside.batches()
    assert aside["place"].to_pylist() == [0, 1, 2, 3]


def test_a_conversation_is_one_text_and_stays_a_conversation_unless_it_is_cut(tmp_path: Path) -> None:
    said = as_turns("What is rain?", "Water that falls from clouds, and then some more of it.")
    rows = [Document(said, "a", 0), Document(said[0]["content"], "a", 1, response=said[1]["content"])]
    _, spills = _read(tmp_path / "whole", rows, IngestSettings())
    first, second = _found(spills)
    assert first["messages"] == second["messages"] == parse(str(first["text"])) == said
    _, cut = _read(tmp_path / "cut", rows[:1], IngestSettings(passage_characters=(10, 60)))
    assert {row["messages"] for row in _found(cut)} == {None}


def test_the_digest_says_what_was_read_and_not_when(tmp_path: Path) -> None:
    rows = [Document("one", "a", 0), Document("", "a", 1, reason="not JSON")]
    digest = _read(tmp_path / "1", rows, IngestSettings())[0].digest
    assert _read(tmp_path / "2", rows, IngestSettings(), serial=9)[0].digest == digest
    for other in (Document("two", "a", 0), Document("one", "b", 0), Document("one", "a", 0, licence="CC0")):
        assert _read(tmp_path / "3", [other, rows[1]], IngestSettings(), serial=3)[0].digest != digest


def test_earlier_records_have_the_keys_they_came_in_with(tmp_path: Path) -> None:
    _, spills = _read(tmp_path / "1", [Document("One  text", "a", 0)], IngestSettings())
    known = Spills.under(tmp_path / "2")
    keep_former_keys(known.keys, 1, ["One  text"])
    assert [table.to_pylist() for table in known.keys.batches()] == [
        table.to_pylist() for table in spills.keys.batches()
    ]


@pytest.mark.parametrize(("name", "wanted"), [("response_column", "response"), ("source_column", "source")])
def test_the_settings_name_the_columns(name: str, wanted: str) -> None:
    assert getattr(columns_of(IngestSettings.model_validate({name: "x"})), wanted) == "x"
