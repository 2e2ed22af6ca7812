"""Doors in: JSONL, CSV, Parquet, plain text and Markdown become documents with the place they came from.

A row that cannot be a document is set aside with its reason, never dropped unseen; a source that cannot be
read at all is refused in one sentence.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.docstrings import LICENCE, docstrings

DOCSTRINGS = "python-docs"
"""The name that stands for the docstrings of the running Python instead of a path."""


@dataclass(frozen=True)
class Document:
    """A text outside the system; `reason` is why it cannot come in, or empty."""

    text: str
    source: str
    place: int
    licence: str = ""
    reason: str = ""


def read_documents(source: str, column: str) -> Iterator[Document]:
    """Documents of one source: the name `python-docs`, a file, or a folder of files.

    Raises:
        ValueError: the source is not there, of no known kind, or has no column of that name.
    """
    if source == DOCSTRINGS:
        for place, (text, module) in enumerate(docstrings()):
            yield Document(text, module, place, LICENCE)
        return
    path = Path(source)
    if not path.exists():
        raise ValueError(f"{source} does not exist; name a file, a folder, or {DOCSTRINGS}")
    files = (
        sorted(found for found in path.rglob("*") if found.suffix in _READERS and found.is_file())
        if path.is_dir()
        else [path]
    )
    if not files:
        raise ValueError(f"{source} holds no file to read; known kinds: {', '.join(_READERS)}")
    for file in files:
        if file.suffix not in _READERS:
            raise ValueError(f"{file} is of no known kind; known kinds: {', '.join(_READERS)}")
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        for place, (text, reason) in enumerate(_READERS[file.suffix](file, column)):
            yield Document(text, name, place, reason=reason)


_LONGEST_FIELD = 2**31 - 1
"""Characters in a CSV field; Python's own limit of 131,072 refuses a whole book."""

Row = tuple[str, str]
"""A text, or an empty one and the reason why there is none."""


def _plain(file: Path, column: str) -> Iterator[Row]:  # noqa: ARG001
    yield _decoded(file.read_bytes())


def _jsonl(file: Path, column: str) -> Iterator[Row]:
    found = False
    rows = 0
    with file.open("rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            rows += 1
            text, reason = _decoded(line)
            try:
                value = {} if reason else json.loads(text)
            except (ValueError, RecursionError):
                value, reason = {}, "not JSON"
            if not reason and not isinstance(value, dict):
                value, reason = {}, "not a JSON object"
            found = found or column in value
            content = value.get(column)
            yield (content, "") if isinstance(content, str) else ("", reason or f"no text in column {column}")
    if rows and not found:
        raise ValueError(f"{file} has no column {column!r} with text; name another with --column")


def _parquet(file: Path, column: str) -> Iterator[Row]:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} is not a Parquet file: {error}") from error
    if column not in parquet.schema_arrow.names:
        raise ValueError(f"{file} has no column {column!r}; its columns: {', '.join(parquet.schema_arrow.names)}")
    for batch in parquet.iter_batches(columns=[column]):
        for value in batch.column(0).to_pylist():
            yield (value, "") if isinstance(value, str) else ("", f"no text in column {column}")


def _csv(file: Path, column: str) -> Iterator[Row]:
    delimiter = "\t" if file.suffix == ".tsv" else ","
    csv.field_size_limit(_LONGEST_FIELD)
    with file.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
        rows = csv.DictReader(lines, delimiter=delimiter)
        if column not in (rows.fieldnames or []):
            known = ", ".join(rows.fieldnames or []).encode("utf-8", "replace").decode() or "none"
            raise ValueError(f"{file} has no column {column!r}; its columns: {known}")
        for row in rows:
            text, reason = _decoded((row[column] or "").encode("utf-8", "surrogateescape"))
            yield text, reason or ("" if text else f"no text in column {column}")


def _decoded(raw: bytes) -> Row:
    try:
        return raw.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return "", "not UTF-8"


_READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _plain,
    ".md": _plain,
}
