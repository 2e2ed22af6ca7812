"""Decode the rows of a block: each one becomes a document, or the reason why it cannot be ingested."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, TypeAlias

import orjson
import pyarrow as pa

from heirloom.chat import parse_conversation, render_chat
from heirloom.errors import HeirloomError
from storage.readers.base import NOT_UTF8, TOO_LONG, Block, Columns, Document
from storage.readers.conversations import MESSAGES_TEXT, TOOLS_COLUMN, decode_messages, no_text, shape_name
from storage.readers.discovery import find_files, read_sources

Cells: TypeAlias = dict[str, Any]
"""Values of a row by column."""


def documents(block: Block, columns: Columns, unread: Counter[str] | None = None) -> Iterator[Document]:
    """Yield one document per row, in order.

    Args:
        block: rows of a source.
        columns: columns to read.
        unread: counts of rows by column, to which columns that are not read are added.
    """
    if block.kind == "documents":
        yield from block.rows
        return
    # A block of a format with one set of columns for all rows knows which of them were read.
    columns = block.columns or columns
    source, text, longest = block.source, columns.text, columns.max_length
    simple = columns.names == [text]
    readers: dict[str, Callable[[Sequence[Any], Columns], Iterator[Cells | str]]] = {
        "lines": _of_lines,
        "rows": _of_rows,
        "batches": _of_batches,
    }
    rows = readers[block.kind](block.rows, columns)
    if unread is not None:
        rows = _count_unread(rows, block, columns, unread)
    for row_number, row in enumerate(rows, block.first_row):
        if isinstance(row, str):
            yield Document("", source, row_number, error=row)
        elif simple and _is_plain_text(content := row.get(text), longest):
            yield Document(content, source, row_number)
        else:
            yield _document(row, source, row_number, columns)


def _count_unread(
    rows: Iterator[Cells | str], block: Block, columns: Columns, unread: Counter[str]
) -> Iterator[Cells | str]:
    # Rows of a source mostly have the same columns, so layouts are counted, and their columns once for each layout.
    layouts: defaultdict[tuple[str, ...], int] = defaultdict(int)
    num_rows = 0
    for row in rows:
        num_rows += 1
        if not isinstance(row, str):
            layouts[tuple(row)] += 1
        yield row
    counts = Counter(dict.fromkeys(block.unread_columns, num_rows))
    for layout, num_layout_rows in layouts.items():
        names = columns.among(layout).names
        counts.update(dict.fromkeys((name for name in layout if name not in names), num_layout_rows))
    # A key of JSON may contain a lone surrogate, which cannot be stored as UTF-8.
    unread.update({name.encode("utf-8", "replace").decode(): count for name, count in counts.items()})


def read_documents(source: str, columns: Columns, unread: Counter[str] | None = None) -> Iterator[Document]:
    """Yield every text of a source; a conversation becomes its rendered text, or an error.

    Columns that are not read are counted in `unread`, see `documents`.

    Raises:
        HeirloomError: the source cannot be read.
    """
    for blocks in read_sources([(source, find_files(source))], columns):
        for block in blocks:
            for document in documents(block, columns, unread):
                yield document if isinstance(document.content, str) else _rendered(document)


def _rendered(document: Document) -> Document:
    conversation = parse_conversation(document.content, document.tools)
    if isinstance(conversation, str):
        return document._replace(content="", error=conversation)
    return document._replace(content=render_chat(conversation.messages), conversation=conversation)


def _is_plain_text(content: Any, max_length: int) -> bool:  # noqa: ANN401
    return isinstance(content, str) and len(content) <= max_length and not MESSAGES_TEXT.match(content)


def _document(cells: Cells, source: str, row_number: int, columns: Columns) -> Document:
    columns = columns.among(cells)
    content, response = cells.get(columns.text), cells.get(columns.response) if columns.response else None
    if columns.shape:
        content, reason = columns.shape.convert(cells)
    elif isinstance(content, str) and len(content) > columns.max_length:
        reason = TOO_LONG
    else:
        content, reason = decode_messages(content)
    if not reason and not isinstance(content, str | list):
        reason = no_text(columns.text)
    if columns.response and not reason:
        if isinstance(content, str) and not content.strip():
            reason = no_text(columns.text)
        elif not isinstance(response, str) or not response.strip():
            reason = no_text(columns.response)
    if columns.prompt_input and not reason and (prompt_input := cells.get(columns.prompt_input)):
        if not isinstance(prompt_input, str) or not isinstance(content, str):
            reason = no_text(columns.prompt_input if isinstance(content, str) else columns.text)
        elif prompt_input.strip():
            content = f"{content}\n\n{prompt_input}"
            reason = TOO_LONG if len(content) > columns.max_length else ""
    if columns.source:
        source = _to_text(cells.get(columns.source)) or source
    is_conversation = isinstance(content, list) and not reason
    shape = columns.shape.name if columns.shape else "messages"
    return Document(
        "" if reason else content,
        source,
        row_number,
        (_to_text(cells.get(columns.license)) or "") if columns.license else "",
        _to_text(cells.get(columns.document_id)) if columns.document_id else None,
        response,
        reason,
        checks=cells.get(columns.checks) if columns.checks else None,
        tools=cells.get(TOOLS_COLUMN) if is_conversation else None,
        shape=(shape_name(content) if shape == "messages" else shape) if is_conversation else "",
    )


def no_text_error(place: object, reasons: Counter[str], column: str, present: Sequence[str]) -> HeirloomError:
    """Return the error for a file none of whose rows has text.

    Args:
        place: file or source.
        reasons: rejected rows by reason.
        column: name of the text column.
        present: other columns of the rows.
    """
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(3))
    advice = "Check the file."
    if any(reason == NOT_UTF8 for reason in reasons):
        advice = "Convert it to UTF-8, for example with `iconv -f LATIN1 -t UTF-8`."
    elif any(reason.startswith("a JSON array") for reason in reasons):
        advice = "Write one object a line, for example with `jq -c '.[]'`."
    elif no_text(column) in reasons:
        listed = ", ".join(map(repr, present[:50])) or "none"
        advice = f"Name the text column with `--text-column`; other columns: {listed}."
    return HeirloomError(f"{place} has no text in column `{column}` ({counts or 'no rows'}). {advice}")


def _to_text(value: object) -> str | None:
    """Return a cell that is an id, a license or a source as text: ids may be numbers, and licenses may be lists."""
    if value is None or isinstance(value, str):
        return value and value.encode("utf-8", "replace").decode()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | dict):
        listed = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_to_text)
        return listed.encode("utf-8", "replace").decode()
    return str(value)


def _of_lines(lines: Sequence[bytes | None], columns: Columns) -> Iterator[Cells | str]:
    named = [name for name in (columns.document_id, columns.license, columns.source) if name]
    for line in lines:
        if line is None:
            yield TOO_LONG
            continue
        try:
            value, reason = orjson.loads(line), ""
        except ValueError:
            value, reason = _parse_leniently(line)
        if named and isinstance(value, dict) and any(_is_rounded(value.get(name)) for name in named):
            value = json.loads(line)
        yield reason or (value if isinstance(value, dict) else _not_an_object(value))


def _is_rounded(value: object) -> bool:
    """Return whether a value may be an integer of more than 64 bits, which orjson reads as a float."""
    return isinstance(value, float) and abs(value) >= 2**63


def _not_an_object(value: object) -> str:
    is_table = isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    return "a JSON array of objects, not one object a line" if is_table else "not a JSON object"


def _parse_leniently(line: bytes) -> tuple[Any, str]:
    """Parse JSON that orjson rejects and Python accepts, such as lone surrogates and NaN; else return the reason."""
    try:
        return json.loads(line.decode("utf-8-sig")), ""
    except UnicodeDecodeError:
        return None, NOT_UTF8
    except (ValueError, RecursionError):
        return None, "not JSON"


def _of_rows(rows: Sequence[list[str] | str], columns: Columns) -> Iterator[Cells | str]:
    names = columns.names
    for row in rows:
        if isinstance(row, str):
            yield row
        elif (cells := [_utf8(cell) for cell in row])[0] is None:
            yield NOT_UTF8
        else:
            # CSV cannot distinguish an empty cell from an absent value.
            yield {name: cell or None for name, cell in zip(names, cells, strict=True)}


def _utf8(cell: str) -> str | None:
    try:
        return cell.encode("utf-8", "surrogateescape").decode()
    except UnicodeDecodeError:
        return None


def _of_batches(batches: Sequence[pa.RecordBatch], columns: Columns) -> Iterator[Cells | str]:
    names = columns.names
    for batch in batches:
        cells = [_values(batch.column(name)) for name in names]
        for row in zip(*cells, strict=True):
            yield (
                NOT_UTF8
                if row[0] is _INVALID or isinstance(row[0], bytes)
                else {name: None if cell is _INVALID else cell for name, cell in zip(names, row, strict=True)}
            )


_INVALID = object()


def _values(column: pa.Array) -> list[Any]:
    """Return the values of a column, with `_INVALID` for each one that is not UTF-8 or out of range.

    Bytes are text where they are UTF-8, since many programs write strings so; strings of a JSON column are decoded.
    """
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if isinstance(column.type, pa.JsonType):
        return [_json_text(value) if isinstance(value, str) else value for value in _values(column.storage)]
    if _has_bytes(column.type):
        return [_decode_bytes(value) for value in column.to_pylist()]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        raw = column.cast(pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary())
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            return [_decode(value) for value in raw.to_pylist()]
    try:
        return column.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return [_value_at(column, index) for index in range(len(column))]


def _has_bytes(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return False
    is_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in is_bytes) or any(
        _has_bytes(kind.field(number).type) for number in range(kind.num_fields)
    )


def _decode_bytes(value: Any) -> Any:  # noqa: ANN401
    """Return a value with text in place of all bytes that are UTF-8."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, dict):
        return {name: _decode_bytes(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_decode_bytes(each) for each in value]
    return value


def _json_text(value: str) -> str | None:
    """Return a JSON string as its text, a null as None, and any other JSON as it is written."""
    try:
        decoded = json.loads(value) if value.lstrip()[:1] in ('"', "n") else value
    except ValueError:
        return value
    return decoded if decoded is None or isinstance(decoded, str) else value


def _decode(raw: bytes | None) -> Any:  # noqa: ANN401
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return _INVALID


def _value_at(column: pa.Array, index: int) -> Any:  # noqa: ANN401
    try:
        return column[index].as_py()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return _INVALID
