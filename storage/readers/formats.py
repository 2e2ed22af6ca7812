"""Readers of each file format, by suffix; they cut a file into blocks of rows."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

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
    single_line,
    truncation_reason,
)
from storage.readers.parquet import read_batches


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
    reader = csv.reader(_texts(file, columns.max_length, state), delimiter="\t" if file.kind == ".tsv" else ",")
    header = next(_rows(reader), [])
    if isinstance(header, str):
        raise UnreadableFileError(file.path, "is not CSV", header)
    names = {name: number for number, name in enumerate(header)}
    _require_columns(file, columns, list(names))
    chosen = [names[name] for name in columns.names]
    rows: list[Any] = []
    place = size = 0
    for row in _rows(reader):
        cells = row if isinstance(row, str) else [row[at] if at < len(row) else "" for at in chosen]
        rows.append(cells)
        size += sum(map(len, cells))
        if size > BLOCK_BYTES or len(rows) == BLOCK_ROWS:
            yield Block(file.name, place, rows, "rows", state.position)
            place, size, rows = place + len(rows), 0, []
    if rows:
        yield Block(file.name, place, rows, "rows", state.position)
    if state.reason:
        yield _rejected_rest(file, place + len(rows), state.reason)


def _parquet(file: SourceFile, columns: Columns) -> Iterator[Block]:
    place = 0
    try:
        for batches, position in read_batches(file, columns):
            yield Block(file.name, place, batches, "batches", position)
            place += sum(batch.num_rows for batch in batches)
    except (pa.ArrowException, OSError) as error:
        yield _rejected_rest(file, place, single_line(error))


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


_LONG_LINE = "\ud800"
"""Placeholder of a line that is too long; decoding with `surrogateescape` never yields this character."""


def _texts(file: SourceFile, longest: int, state: _ReadState) -> Iterator[str]:
    for lines, position, reason in iter_lines(file, longest):
        state.position, state.reason = position, reason
        for line in lines:
            yield _LONG_LINE if line is None else line.decode("utf-8", "surrogateescape") + "\n"


def _rows(reader: Iterator[list[str]]) -> Iterator[list[str] | str]:
    """Yield rows that are not empty, or the reason why a row cannot be read."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield TOO_LONG if "limit" in str(error) else "not CSV"
            continue
        if any(_LONG_LINE in cell for cell in row):
            yield TOO_LONG
        elif row:
            yield row


def _require_columns(file: SourceFile, columns: Columns, known: Sequence[str]) -> None:
    for name in columns.names:
        if name not in known:
            raise UnreadableFileError(
                file.path, f"has no column {name!r}", f"its columns: {', '.join(known) or 'none'}"
            )


def _rejected_rest(file: SourceFile, place: int, reason: str) -> Block:
    return Block(file.name, place, [Document("", file.name, place, error=reason)], "documents", file.size)
