"""Columns of exported conversations, in the shape that TRL and `datasets` read.

`messages` is a list of messages; the name of their reasoning is that of most chat templates, `reasoning_content`.
A response that was judged worse than the last one is in `rejected`, and `tools` is the list of tools.
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

_COLUMNS = ("messages", "rejected", "tools")
_REJECTED = "rejected"


def with_conversations(table: pa.Table) -> pa.Table:
    """Return a corpus with the columns of its conversations, as JSON; without them if it has no conversation.

    The columns have Arrow's type of JSON, which `datasets` decodes: a nested type would fill the arguments of tools
    with nulls.
    """
    messages, tools = table["messages"].to_pylist(), table["tools"].to_pylist()
    table = table.drop_columns(["messages", "tools"])
    if not any(messages):
        return table
    columns: dict[str, list[str | None]] = {name: [] for name in _COLUMNS}
    for row_messages, row_tools in zip(messages, tools, strict=True):
        turns = [_exported(message) for message in json.loads(row_messages)] if row_messages else []
        rejected = [{**turn, "role": "assistant"} for turn in turns if turn["role"] == _REJECTED]
        columns["messages"].append(_to_json([turn for turn in turns if turn["role"] != _REJECTED]))
        columns["rejected"].append(_to_json(rejected))
        columns["tools"].append(row_tools)
    for name in _COLUMNS:
        if any(columns[name]):
            array = pa.array(columns[name], pa.string())
            table = table.append_column(name, pa.ExtensionArray.from_storage(pa.json_(pa.string()), array))
    return table


def from_json_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its columns of JSON as values."""
    return {name: json.loads(value) if name in _COLUMNS and value else value for name, value in row.items()}


def _exported(message: dict[str, Any]) -> dict[str, Any]:
    return {"reasoning_content" if name == "reasoning" else name: value for name, value in message.items()}


def _to_json(messages: list[dict[str, Any]]) -> str | None:
    return json.dumps(messages, ensure_ascii=False) if messages else None
