import json
from collections import Counter
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.readers.base import Block, Columns, Document
from storage.readers.discovery import find_files, read_sources
from storage.readers.documents import documents

_USER, _ASSISTANT = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
_REJECTED = {"role": "rejected", "content": "No."}
_BAD = {"role": "assistant", "content": "No."}

_ROWS: list[tuple[dict[str, object], list[object], str]] = [
    ({"messages": [_USER, _ASSISTANT]}, [_USER, _ASSISTANT], "OpenAI messages"),
    ({"messages": json.dumps([_USER, _ASSISTANT])}, [_USER, _ASSISTANT], "OpenAI messages"),
    (
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}],
        "ShareGPT conversations",
    ),
    (
        {"conversations": [{"from": "human", "value": "Why?"}], "system": "Be brief."},
        [{"role": "system", "content": "Be brief."}, {"from": "human", "value": "Why?"}],
        "OpenAI messages",
    ),
    ({"instruction": "Why?", "input": "", "output": "So."}, [_USER, _ASSISTANT], "Alpaca instructions"),
    (
        {"instruction": "Add.", "input": "4, 9", "output": "13"},
        [{"role": "user", "content": "Add.\n\n4, 9"}, {"role": "assistant", "content": "13"}],
        "Alpaca instructions",
    ),
    ({"prompt": "Why?", "completion": "So."}, [_USER, _ASSISTANT], "TRL prompts and completions"),
    ({"prompt": [_USER], "completion": [_ASSISTANT]}, [_USER, _ASSISTANT], "TRL prompts and completions"),
    (
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        [_USER, _ASSISTANT, _REJECTED],
        "TRL preference pairs",
    ),
    (
        {"prompt": [_USER], "chosen": [_ASSISTANT], "rejected": [_BAD]},
        [_USER, _ASSISTANT, _REJECTED],
        "TRL preference pairs",
    ),
    (
        {"prompt": "Why?", "chosen": [_USER, _ASSISTANT], "rejected": [_USER, _BAD]},
        [_USER, _ASSISTANT, _REJECTED],
        "TRL preference pairs",
    ),
    (
        {"chosen": [_USER, _ASSISTANT], "rejected": [_USER, _BAD]},
        [_USER, _ASSISTANT, _REJECTED],
        "TRL preference pairs",
    ),
]


def _read(row: dict[str, object], columns: Columns | None = None) -> Document:
    (document,) = documents(Block("a", 0, [json.dumps(row).encode()], "lines"), columns or Columns())
    return document


@pytest.mark.parametrize(("row", "messages", "shape"), _ROWS)
def test_common_shapes_of_conversations_are_recognized(
    row: dict[str, object], messages: list[object], shape: str, tmp_path: Path
) -> None:
    document = _read(row)
    assert (document.content, document.shape, document.error) == (messages, shape, "")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    source = str(path)
    (blocks,) = read_sources([(source, find_files(source))], Columns())
    (document,) = documents(blocks[0], Columns())
    assert (document.content, document.shape, document.error) == (messages, shape, "")


def test_shapes_of_a_dataset_of_the_hub_library_are_recognized(tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"messages": [_USER, _ASSISTANT], "score": 1}]).save_to_disk(tmp_path / "data")
    source, unread = f"hf:{tmp_path / 'data'}", Counter[str]()
    (blocks,) = read_sources([(source, [])], Columns())
    (document,) = documents(blocks[0], Columns(), unread)
    assert (document.content, document.shape) == ([_USER, _ASSISTANT], "OpenAI messages")
    assert unread == {"score": 1}


def test_a_csv_file_of_instructions_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("instruction,input,output,id\nWhy?,,So.,7\n")
    source, unread = str(tmp_path / "a.csv"), Counter[str]()
    (blocks,) = read_sources([(source, find_files(source))], Columns())
    (document,) = documents(blocks[0], Columns(), unread)
    assert (document.content, document.shape, unread) == ([_USER, _ASSISTANT], "Alpaca instructions", {"id": 1})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": "hi"}, "no messages in column messages"),
        ({"instruction": "Why?", "output": " "}, "no text in column output"),
        ({"instruction": None, "output": "So."}, "no text in column instruction"),
        ({"instruction": "Why?", "input": 7, "output": "So."}, "no text in column input"),
        ({"prompt": "Why?", "completion": ""}, "no text in column completion"),
        ({"prompt": "", "completion": "So."}, "no text in column prompt"),
        ({"chosen": "So.", "rejected": "No."}, "a chosen response without a prompt"),
        ({"prompt": "Why?", "chosen": "So.", "rejected": None}, "no text in column rejected"),
        (
            {"chosen": [_USER, _ASSISTANT], "rejected": [_ASSISTANT, _BAD]},
            "a chosen and a rejected response to different prompts",
        ),
    ],
)
def test_a_row_of_a_known_shape_without_its_parts_has_its_reason(row: dict[str, object], reason: str) -> None:
    assert (_read(row).content, _read(row).error) == ("", reason)


def test_a_column_of_text_comes_before_shapes_and_a_named_column_before_both() -> None:
    row = {"text": "plain", "messages": [_USER, _ASSISTANT]}
    assert (_read(row).content, _read(row).shape) == ("plain", "")
    named = _read(row, Columns("messages"))
    assert (named.content, named.shape) == ([_USER, _ASSISTANT], "OpenAI messages")
    assert _read({"messages": [_USER, _ASSISTANT]}, Columns("body")).error == "no text in column body"


def test_tools_are_read_beside_messages_and_only_there() -> None:
    tools, unread = [{"type": "function", "function": {"name": "f"}}], Counter[str]()
    assert _read({"messages": [_USER, _ASSISTANT], "tools": tools}).tools == tools
    assert _read({"chat": [_USER, _ASSISTANT], "tools": tools}, Columns("chat")).tools == tools
    line = json.dumps({"text": "plain", "tools": tools, "more": 1}).encode()
    (document,) = documents(Block("a", 0, [line], "lines"), Columns(), unread)
    assert (document.content, document.tools, unread) == ("plain", None, {"more": 1})
