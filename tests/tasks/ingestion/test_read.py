from pathlib import Path

import pytest

from curation.chat import parse_chat_text, to_messages
from curation.splitting import IngestSettings, is_held_out
from storage.artifacts.ids import text_hash
from storage.readers.base import Block, Document
from tasks.ingestion.read import BUCKETS, ReadResult, ScratchTables, index_previous_keys, input_columns, read_blocks


def _read(
    folder: Path, rows: list[Document], settings: IngestSettings, serial: int = 1
) -> tuple[ReadResult, ScratchTables]:
    spills = ScratchTables.in_folder(folder)
    return read_blocks(spills, settings, (serial, [Block("", 0, rows, "documents")])), spills


def _found(spills: ScratchTables) -> list[dict[str, object]]:
    return sorted(
        (row for table in spills.records.iter_batches() for row in table.to_pylist()), key=lambda row: row["order"]
    )


def test_a_record_is_numbered_and_lies_in_the_bucket_of_its_digest(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(300)]
    rows = [Document(text, "a", place) for place, text in enumerate(texts)]
    harvest, spills = _read(tmp_path, rows, IngestSettings(), serial=2)
    assert (harvest.documents, harvest.unreadable, harvest.reasons) == ({"": 300}, {}, {})
    found = _found(spills)
    assert [row["order"] for row in found] == [(2 << 32) + number for number in range(300)]
    assert [(row["text"], row["text_hash"]) for row in found] == [(text, text_hash(text)) for text in texts]
    assert all(row["is_heldout"] == is_held_out(str(row["text_hash"]), 0.15) for row in found)
    for bucket in range(BUCKETS):
        digests = spills.records.read([bucket], ["text_hash"])["text_hash"].to_pylist()
        assert all(int(digest[:2], 16) >> 1 == bucket for digest in digests)


def test_a_document_that_gives_no_record_has_its_reason(tmp_path: Path) -> None:
    rows = [
        Document("", "a", 0, error="not JSON"),
        Document("?!", "a", 1),
        Document([7], "a", 2),
        Document([], "a", 3, response="so"),
        Document("fine \ud800", "a", 4, document_id="x"),
    ]
    harvest, spills = _read(tmp_path, rows, IngestSettings())
    assert harvest.reasons == {"not JSON": 1, "holds no word": 1, "not a conversation": 1, "not a prompt": 1}
    assert (harvest.documents, harvest.unreadable[""]) == ({"": 5}, 1)
    assert [(row["text"], row["document_id"]) for row in _found(spills)] == [("fine ?", "x")]
    (aside,) = spills.rejected.iter_batches()
    assert aside["row_number"].to_pylist() == [0, 1, 2, 3]


def test_a_conversation_is_one_text_and_stays_a_conversation_unless_it_is_cut(tmp_path: Path) -> None:
    said = to_messages("What is rain?", "Water that falls from clouds, and then some more of it.")
    rows = [Document(said, "a", 0), Document(said[0]["content"], "a", 1, response=said[1]["content"])]
    _, spills = _read(tmp_path / "whole", rows, IngestSettings())
    first, second = _found(spills)
    assert first["messages"] == second["messages"] == parse_chat_text(str(first["text"])) == said
    _, cut = _read(tmp_path / "cut", rows[:1], IngestSettings(passage_length_chars=(10, 60)))
    assert {row["messages"] for row in _found(cut)} == {None}


def test_the_digest_says_what_was_read_and_not_when(tmp_path: Path) -> None:
    rows = [Document("one", "a", 0), Document("", "a", 1, error="not JSON")]
    digest = _read(tmp_path / "1", rows, IngestSettings())[0].content_hash
    assert _read(tmp_path / "2", rows, IngestSettings(), serial=9)[0].content_hash == digest
    for other in (Document("two", "a", 0), Document("one", "b", 0), Document("one", "a", 0, license="CC0")):
        assert _read(tmp_path / "3", [other, rows[1]], IngestSettings(), serial=3)[0].content_hash != digest


def test_earlier_records_have_the_keys_they_came_in_with(tmp_path: Path) -> None:
    _, spills = _read(tmp_path / "1", [Document("One  text", "a", 0)], IngestSettings())
    known = ScratchTables.in_folder(tmp_path / "2")
    index_previous_keys(known.keys, 1, ["One  text"])
    assert [table.to_pylist() for table in known.keys.iter_batches()] == [
        table.to_pylist() for table in spills.keys.iter_batches()
    ]


@pytest.mark.parametrize(("name", "wanted"), [("response_column", "response"), ("source_column", "source")])
def test_the_settings_name_the_columns(name: str, wanted: str) -> None:
    assert getattr(input_columns(IngestSettings.model_validate({name: "x"})), wanted) == "x"
