import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.readers.base import NOT_UTF8, Block, Columns, Document
from storage.readers.conversations import MESSAGES_TEXT
from storage.readers.documents import documents, read_documents


def _contents(rows: list[object], kind: str, columns: Columns | None = None) -> list[tuple[object, str]]:
    return [(one.content, one.error) for one in documents(Block("a", 0, rows, kind), columns or Columns())]


def test_a_row_keeps_its_id_its_license_and_where_it_is_from() -> None:
    columns = Columns("body", None, "n", "terms", "author")
    line = b'{"body": "hello", "n": 7, "terms": "CC0", "author": "Ada", "more": []}'
    assert list(documents(Block("a.jsonl", 3, [line], "lines"), columns)) == [
        Document("hello", "Ada", 3, "CC0", "7", None, "")
    ]
    bare = list(documents(Block("a.jsonl", 3, [b'{"body": "hello"}'], "lines"), columns))
    assert bare == [Document("hello", "a.jsonl", 3, "", None, None, "")]


def test_a_prompt_needs_its_response() -> None:
    columns = Columns("prompt", "answer")
    rows = [b'{"prompt": "why?", "answer": "so"}', b'{"prompt": "why?"}', b'{"answer": "so"}']
    found = list(documents(Block("a", 0, rows, "lines"), columns))
    assert [(one.content, one.response, one.error) for one in found] == [
        ("why?", "so", ""),
        ("", None, "no text in column answer"),
        ("", "so", "no text in column prompt"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'"a string"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"text": NaN}', "no text in column text"),
        (b'{"text": {"a": 1}}', "no text in column text"),
        (b"{" * 100_000, "not JSON"),
        (b'{"text": "\xed\xa0\x80"}', NOT_UTF8),
    ],
)
def test_a_line_without_text_has_its_reason(line: bytes, reason: str) -> None:
    assert _contents([line], "lines") == [("", reason)]


def test_a_string_of_parquet_that_is_not_utf8_is_set_aside_alone() -> None:
    raw = pa.array([b"good", b"caf\xe9", None, b"last"], pa.binary())
    for kind, offsets in ((pa.string(), raw), (pa.large_string(), raw.cast(pa.large_binary()))):
        column = pa.Array.from_buffers(kind, 4, offsets.buffers())
        batch = pa.record_batch({"text": column})
        assert _contents([batch], "batches") == [
            ("good", ""),
            ("", NOT_UTF8),
            ("", "no text in column text"),
            ("last", ""),
        ]


def test_conversations_and_dictionaries_of_parquet_come_as_values() -> None:
    turns = [{"role": "user", "content": "hi"}]
    assert _contents([pa.record_batch({"text": [turns]})], "batches") == [(turns, "")]
    assert _contents([pa.record_batch({"text": pa.array(["a", "b", "a"]).dictionary_encode()})], "batches") == [
        ("a", ""),
        ("b", ""),
        ("a", ""),
    ]


def test_every_text_of_a_source_can_be_had_one_at_a_time(tmp_path: Path) -> None:
    one, other = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "b"}
    rows = [{"text": "one"}, {"text": [one]}, {"text": [one, other]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [(each.content, each.error) for each in read_documents(str(tmp_path / "a.jsonl"), Columns("text"))] == [
        ("one", ""),
        ("", "the last message is not the assistant's"),
        ("### user\nhi\n\n### assistant\nb", ""),
    ]


_MESSAGES = [{"role": "user", "content": "What is rain?"}, {"role": "assistant", "content": 'It\'s "water".'}]


@pytest.mark.parametrize(
    "cell",
    [
        _MESSAGES,
        {"role": ["user", "assistant"], "content": ["What is rain?", 'It\'s "water".']},
        {"role": ["user", "assistant"], "content": ["What is rain?", 'It\'s "water".'], "weight": None},
        {"messages": _MESSAGES},
        json.dumps(_MESSAGES),
        "\n " + json.dumps(_MESSAGES, indent=2),
        json.dumps({"messages": _MESSAGES}),
        json.dumps({"role": ["user", "assistant"], "content": ["What is rain?", 'It\'s "water".']}),
        str(_MESSAGES),
    ],
)
def test_messages_are_read_in_every_shape_that_they_are_stored_in(cell: object) -> None:
    assert _contents([json.dumps({"text": cell}).encode()], "lines") == [(_MESSAGES, "")]


def test_messages_as_lists_of_an_arrow_struct_are_read() -> None:
    table = pa.table({"text": [{"role": ["user"], "content": ["hi"]}, {"role": ["user"], "content": ["a", "b"]}]})
    assert _contents(table.to_batches(), "batches") == [
        ([{"role": "user", "content": "hi"}], ""),
        ("", "a conversation whose lists differ in length"),
    ]


@pytest.mark.parametrize(
    "text", ['[{"name": "a"}, {"name": "b"}]', "[{'x': 1, and prose", '{"content": ["a"]}', "[1, 2]", "{role}", "[{"]
)
def test_json_that_is_no_conversation_stays_text(text: str) -> None:
    assert _contents([json.dumps({"text": text}).encode()], "lines") == [(text, "")]


def test_a_serialized_conversation_that_cannot_be_parsed_is_rejected() -> None:
    cut = json.dumps(_MESSAGES)[:-9]
    reason = "a conversation as text that is neither JSON nor a Python literal"
    assert _contents([json.dumps({"text": cut}).encode()], "lines") == [("", reason)]


@pytest.mark.parametrize(
    ("prompt", "answer", "column"), [("why?", "", "answer"), ("why?", " \n", "answer"), ("", "so", "prompt")]
)
def test_an_empty_prompt_or_response_is_rejected(prompt: str, answer: str, column: str) -> None:
    line = json.dumps({"prompt": prompt, "answer": answer}).encode()
    (document,) = documents(Block("a", 0, [line], "lines"), Columns("prompt", "answer"))
    assert document.error == f"no text in column {column}"


def test_the_input_of_an_instruction_is_appended_to_the_prompt() -> None:
    columns = Columns("instruction", "output", prompt_input="input")
    rows = [{"input": "4, 9"}, {"input": ""}, {"input": None}, {}, {"input": 7}]
    lines = [json.dumps({"instruction": "Add.", "output": "13", **row}).encode() for row in rows]
    assert [(document.content, document.error) for document in documents(Block("a", 0, lines, "lines"), columns)] == [
        ("Add.\n\n4, 9", ""),
        ("Add.", ""),
        ("Add.", ""),
        ("Add.", ""),
        ("", "no text in column input"),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18446744073709551621, "18446744073709551621"),
        (-(2**70), "-1180591620717411303424"),
        (1.5, "1.5"),
        (True, "True"),
        (["MIT", "Apache-2.0"], '["MIT","Apache-2.0"]'),
        ({"a": "é"}, '{"a":"é"}'),
        ("", ""),
        (None, None),
    ],
)
def test_ids_and_licenses_of_json_are_kept_as_text(value: object, text: str | None) -> None:
    columns = Columns(document_id="n", license="n")
    line = json.dumps({"text": "hello", "n": value}).encode()
    (document,) = documents(Block("a.jsonl", 0, [line], "lines"), columns)
    assert (document.document_id, document.license) == (text, text or "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (Decimal("12.50"), "12.50"),
        (b"a1\xff", "a1\\xff"),
        ([date(2026, 1, 2)], '["2026-01-02"]'),
    ],
)
def test_ids_of_parquet_are_kept_as_text_whatever_their_type(value: object, text: str) -> None:
    batch = pa.record_batch({"text": ["hello"], "n": [value]})
    (document,) = documents(Block("a", 0, [batch], "batches"), Columns(document_id="n", source="n"))
    assert (document.document_id, document.source) == (text, text)


_BINARY_TYPES = (pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary()))


def _read(table: pa.Table, folder: Path, columns: Columns) -> list[Document]:
    pq.write_table(table, folder / "a.parquet")
    return list(read_documents(str(folder / "a.parquet"), columns))


@pytest.mark.parametrize("kind", _BINARY_TYPES, ids=str)
def test_bytes_of_parquet_are_text_where_they_are_utf8(kind: pa.DataType, tmp_path: Path) -> None:
    texts = pa.array(["Grüße an Ines".encode(), b"caf\xe9 und mehr", None], pa.binary()).cast(kind)
    ids = pa.array([b"a-1", b"\xff", None], pa.binary()).cast(kind)
    read = _read(pa.table({"text": texts, "id": ids}), tmp_path, Columns(document_id="id"))
    assert [(each.content, each.error) for each in read] == [
        ("Grüße an Ines", ""),
        ("", "not UTF-8"),
        ("", "no text in column text"),
    ]
    assert read[0].document_id == "a-1"


def test_messages_with_bytes_are_read(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("role", pa.binary()), ("content", pa.large_binary())]))
    messages = [{"role": b"user", "content": b"Who?"}, {"role": b"assistant", "content": "Grüße".encode()}]
    (read,) = _read(pa.table({"messages": pa.array([messages], kind)}), tmp_path, Columns())
    assert read.content == "### user\nWho?\n\n### assistant\nGrüße"


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=9))
def test_texts_of_a_json_column_are_those_that_duckdb_reads(texts: list[str | None]) -> None:
    texts = [text if text is None or (text.strip() and not MESSAGES_TEXT.match(text)) else "a" for text in texts]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.parquet")
        rows = "select to_json(unnest($texts::varchar[])) as text, 1 as n"
        duckdb.sql(rows, params={"texts": texts}).to_parquet(str(path))
        by_duckdb = duckdb.sql(f"select text ->> '$' from '{path}'").fetchall()
        read = list(read_documents(str(path), Columns()))
    assert [(each.content if not each.error else None,) for each in read] == by_duckdb == [(text,) for text in texts]


@pytest.mark.parametrize("value", ['{"a": 1}', "[1, 2]", "17", "nul", '"half'])
def test_other_json_is_text_as_it_is_written(value: str, tmp_path: Path) -> None:
    column = pa.ExtensionArray.from_storage(pa.json_(), pa.array([value]))
    (read,) = _read(pa.table({"text": column}), tmp_path, Columns())
    assert read.content == value
