"""Readers of each file format, by suffix; they cut a file into blocks of rows."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from heirloom.errors import one_line
from storage.readers.base import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    NOT_UTF8,
    TOO_LONG,
    Block,
    Columns,
    Document,
    SourceFile,
    UnreadableFileError,
    iter_chunks,
    iter_lines,
    require_columns,
    truncation_reason,
)
from storage.readers.delimited import LONG_LINE, Dialect, RowParser
from storage.readers.parquet import columns_of, read_batches, unread_columns


def _jsonl(file: SourceFile, columns: Columns) -> Iterator[Block]:
    place = 0
    for lines, position, reason in iter_lines(file, columns.max_length):
        rows = [line for line in lines if line is None or line.strip()]
        if rows:
            yield Block(file.name, place, rows, "lines", position)
        place += len(rows)
        if reason:
            yield _rejected_rest(file, place, reason)


def _csv(file: SourceFile, columns: Columns) -> Iterator[Block]:
    # The default limit of 131,072 characters is too small for a document such as a book.
    csv.field_size_limit(columns.max_length)
    state = _ReadState()
    dialect = _dialect(file, columns)
    parser = RowParser(lambda: _texts(file, columns.max_length, state), dialect)
    rows_in_order = iter(parser)
    header = next(rows_in_order, [])
    if isinstance(header, str):
        raise UnreadableFileError(file.path, "is not CSV", header.removeprefix("not CSV: "))
    columns = columns.among(header)
    require_columns(file.path, columns, header, _delimiter_advice(columns, header))
    parser.num_cells = len(header)
    chosen = [header.index(name) for name in columns.names]
    unread = [name for name in header if name not in columns.names]
    rows: list[Any] = []
    place = size = 0
    for row in rows_in_order:
        cells = row if isinstance(row, str) else [row[at] for at in chosen]
        rows.append(cells)
        size += sum(map(len, cells))
        if size > BLOCK_BYTES or len(rows) == BLOCK_ROWS:
            yield Block(file.name, place, rows, "rows", state.position, unread, columns)
            place, size, rows = place + len(rows), 0, []
    if rows:
        yield Block(file.name, place, rows, "rows", state.position, unread, columns)
    if state.reason:
        yield _rejected_rest(file, place + len(rows), state.reason)


def _dialect(file: SourceFile, columns: Columns) -> Dialect:
    is_tsv = file.kind == ".tsv"
    return Dialect(
        delimiter=columns.delimiter or ("\t" if is_tsv else ","),
        quote='"' if columns.quote is None else columns.quote,
        escape=columns.escape,
        literal_quotes=is_tsv and columns.quote is None and columns.escape is None,
    )


def _delimiter_advice(columns: Columns, header: Sequence[str]) -> str:
    """Return advice if the header has the wanted column with another delimiter."""
    for delimiter, name in ((";", ";"), ("\t", "\\t"), ("|", "|"), (",", ",")):
        if any(delimiter in cell and columns.text in cell.split(delimiter) for cell in header):
            return f"; if cells are separated by `{name}`, pass `--set csv_delimiter='{name}'`"
    return ""


def _parquet(file: SourceFile, columns: Columns) -> Iterator[Block]:
    place = 0
    columns = columns_of(file, columns)
    try:
        unread: list[str] | None = None
        for batches, position in read_batches(file, columns):
            # Only now the file is known to be readable.
            unread = unread_columns(file, columns) if unread is None else unread
            yield Block(file.name, place, batches, "batches", position, unread, columns)
            place += sum(batch.num_rows for batch in batches)
    except (pa.ArrowException, OSError) as error:
        yield _rejected_rest(file, place, one_line(error))


def _plain(file: SourceFile, columns: Columns) -> Iterator[Block]:
    content, reason = bytearray(), ""
    for chunk, _, broken in iter_chunks(file):
        content += chunk
        reason = broken and truncation_reason(broken)
        if len(content) > columns.max_length:
            reason = TOO_LONG
            break
    if reason:
        yield _rejected_rest(file, 0, reason)
        return
    try:
        document = Document(content.decode("utf-8-sig"), file.name, 0)
    except UnicodeDecodeError:
        document = Document("", file.name, 0, error=NOT_UTF8)
    yield Block(file.name, 0, [document], "documents", file.size)


JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
"""Formats whose columns are known only after reading every line."""

READERS: dict[str, Callable[[SourceFile, Columns], Iterator[Block]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _plain,
    ".md": _plain,
}


@dataclass
class _ReadState:
    """Position in the file, and the reason if it is truncated."""

    position: int = 0
    reason: str = ""


def _texts(file: SourceFile, longest: int, state: _ReadState) -> Iterator[str]:
    for lines, position, reason in iter_lines(file, longest):
        state.position, state.reason = position, reason
        for line in lines:
            yield LONG_LINE if line is None else line.decode("utf-8", "surrogateescape") + "\n"


def _rejected_rest(file: SourceFile, place: int, reason: str) -> Block:
    return Block(file.name, place, [Document("", file.name, place, error=reason)], "documents", file.size)
