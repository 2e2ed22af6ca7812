from pathlib import Path

import pytest

from curation.splitting import IngestSettings, is_held_out
from heirloom.chat import parse_chat_text, to_json, to_messages
from storage.artifacts.ids import text_hash
from storage.readers.base import Block, Document
from tasks.ingestion.read import (
    NUM_RECORD_PARTITIONS,
    BlockBatch,
    ReadResult,
    ScratchTables,
    index_previous_keys,
    input_columns,
    read_blocks,
)


def _read(
    folder: Path, documents: list[Document], settings: IngestSettings, batch_number: int = 1
) -> tuple[ReadResult, ScratchTables]:
    tables = ScratchTables.in_folder(folder)
    batch = BlockBatch(number=batch_number, blocks=[Block("", 0, documents, "documents")])
    return read_blocks(tables, settings, batch), tables


def _records(tables: ScratchTables) -> list[dict[str, object]]:
    return sorted(
        (row for table in tables.records.iter_batches() for row in table.to_pylist()), key=lambda row: row["order"]
    )


def test_records_are_numbered_in_order_and_partitioned_by_text_hash(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(300)]
    documents = [Document(text, "a", row) for row, text in enumerate(texts)]
    result, tables = _read(tmp_path, documents, IngestSettings(), batch_number=2)
    assert (result.documents, result.unreadable, result.reasons) == ({"": 300}, {}, {})
    records = _records(tables)
    assert [row["order"] for row in records] == [(2 << 32) + number for number in range(300)]
    assert [(row["text"], row["text_hash"]) for row in records] == [(text, text_hash(text)) for text in texts]
    assert all(row["is_heldout"] == is_held_out(str(row["text_hash"]), 0.15) for row in records)
    for partition in range(NUM_RECORD_PARTITIONS):
        hashes = tables.records.read([partition], ["text_hash"])["text_hash"].to_pylist()
        assert all(int(one_hash[:2], 16) >> 1 == partition for one_hash in hashes)


def test_a_document_without_a_record_is_rejected_with_a_reason(tmp_path: Path) -> None:
    documents = [
        Document("", "a", 0, error="not JSON"),
        Document("?!", "a", 1),
        Document([], "a", 3, response="so"),
        Document("fine \ud800", "a", 4, document_id="x"),
    ]
    result, tables = _read(tmp_path, documents, IngestSettings())
    assert result.reasons == {"not JSON": 1, "no words": 1, "prompt is not text": 1}
    assert (result.documents, result.unreadable[""]) == ({"": 4}, 1)
    assert [(row["text"], row["document_id"]) for row in _records(tables)] == [("fine ?", "x")]
    (rejected,) = tables.rejected.iter_batches()
    assert rejected["row_number"].to_pylist() == [0, 1, 3]
    assert rejected["filter"].to_pylist() == ["read"] * 3


def test_content_that_is_not_a_conversation_is_rejected(tmp_path: Path) -> None:
    result, tables = _read(tmp_path, [Document([7], "a", 2)], IngestSettings())
    assert result.reasons.total() == 1
    assert result.unreadable.total() == 0
    (rejected,) = tables.rejected.iter_batches()
    assert rejected["row_number"].to_pylist() == [2]


def test_a_conversation_keeps_its_messages_unless_it_is_split_into_passages(tmp_path: Path) -> None:
    messages = to_messages("What is rain?", "Water that falls from clouds, and then some more of it.")
    prompt, response = (message["content"] for message in messages)
    documents = [Document(messages, "a", 0), Document(prompt, "a", 1, response=response)]
    _, tables = _read(tmp_path / "whole", documents, IngestSettings())
    first, second = _records(tables)
    assert first["messages"] == second["messages"] == to_json(messages)
    assert parse_chat_text(str(first["text"])) == messages
    _, passages = _read(tmp_path / "passages", documents[:1], IngestSettings(passage_length_chars=(10, 60)))
    assert {row["messages"] for row in _records(passages)} == {None}


def test_the_content_hash_depends_on_content_and_not_on_the_batch_number(tmp_path: Path) -> None:
    documents = [Document("one", "a", 0), Document("", "a", 1, error="not JSON")]
    content_hash = _read(tmp_path / "1", documents, IngestSettings())[0].content_hash
    assert _read(tmp_path / "2", documents, IngestSettings(), batch_number=9)[0].content_hash == content_hash
    for changed in (Document("two", "a", 0), Document("one", "b", 0), Document("one", "a", 0, license="CC0")):
        result, _ = _read(tmp_path / "3", [changed, documents[1]], IngestSettings(), batch_number=3)
        assert result.content_hash != content_hash


def test_a_previous_record_has_the_key_that_it_was_ingested_with(tmp_path: Path) -> None:
    _, tables = _read(tmp_path / "1", [Document("One  text", "a", 0)], IngestSettings())
    previous = ScratchTables.in_folder(tmp_path / "2")
    index_previous_keys(previous.keys, 1, ["One  text"])
    assert [table.to_pylist() for table in previous.keys.iter_batches()] == [
        table.to_pylist() for table in tables.keys.iter_batches()
    ]


@pytest.mark.parametrize(
    ("setting", "column"),
    [
        ("text_column", "text"),
        ("response_column", "response"),
        ("id_column", "document_id"),
        ("license_column", "license"),
        ("source_column", "source"),
    ],
)
def test_settings_name_the_input_columns(setting: str, column: str) -> None:
    assert getattr(input_columns(IngestSettings.model_validate({setting: "x"})), column) == "x"
