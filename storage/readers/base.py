"""Types that all readers share: files, blocks of raw rows, documents; and reading of lines from compressed files.

At most one block of a file is in memory. Rows are decoded in `storage/readers/documents.py`, possibly in another
process.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from heirloom.chat import Conversation
from heirloom.errors import HeirloomError, did_you_mean, one_line
from storage.readers.conversations import TOOLS_COLUMN, Shape, find_shape

DEFAULT_TEXT_COLUMN = "text"
BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 32_768

TOO_LONG = "longer than max_document_bytes"
NOT_UTF8 = "not UTF-8"


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a source, the maximum length of a document, and the characters of CSV and TSV."""

    text: str = DEFAULT_TEXT_COLUMN
    response: str | None = None
    document_id: str | None = None
    license: str | None = None
    source: str | None = None
    max_length: int = 16 << 20
    delimiter: str | None = None
    """Default: a comma, and a tab in `.tsv` files."""
    quote: str | None = None
    """Default: `"`; empty: no quoting."""
    escape: str | None = None
    prompt_input: str | None = None
    """Column to append to the prompt after an empty line, where it is not empty."""
    checks: str | None = None
    """Column with the check of an answer to the text."""
    shape: Shape | None = None
    """Shape of conversations to read in place of the text, see `among`."""
    optional: tuple[str, ...] = ()
    """Further columns to read."""
    with_others: bool = False
    """Read all other columns too, as `optional`; those that share their name with another one are left out."""

    @property
    def names(self) -> list[str]:
        """Every column to read, the text first."""
        own = self.shape.columns if self.shape else (self.text,)
        named = (self.response, self.document_id, self.license, self.source, self.prompt_input, self.checks)
        names = (*own, *named, *self.optional)
        return list(dict.fromkeys(name for name in names if name))

    def among(self, present: Collection[str]) -> "Columns":
        """Return the columns to read of those that are present.

        Without a column of the default name for the text, the columns of a known shape of conversations are read.
        """
        if self.shape:
            return self
        shape = None
        if self.text == DEFAULT_TEXT_COLUMN and self.text not in present and not self.response:
            shape = find_shape(present)
        expected = shape.optional if shape else (TOOLS_COLUMN,)
        optional = tuple(name for name in expected if name in present)
        if self.with_others:
            num_with_name = Counter(list(present))
            named = replace(self, shape=shape).names
            optional = tuple(name for name in num_with_name if name not in named and num_with_name[name] == 1)
        return replace(self, shape=shape, optional=optional) if shape or optional else self


class Document(NamedTuple):
    """A text or conversation of a source; `error` is the reason why it cannot be ingested, or empty."""

    content: Any
    source: str
    row_number: int
    license: str = ""
    document_id: str | None = None
    response: Any = None
    error: str = ""
    tools: Any = None
    """Tools that a conversation offers, as the source has them."""
    checks: Any = None
    """Check of an answer, as the source has it."""
    shape: str = ""
    """What the source's conversations were taken for, by its common name; empty for a text."""
    conversation: Conversation | None = None
    """The conversation that `content` renders, where a conversation was read as text."""


@dataclass(frozen=True)
class Block:
    """Some rows of a source, the number of the first one, and the position in bytes of their end in the file.

    `kind` is the type of `rows`: `lines` of JSON (None if a line is too long), `rows` of cells in the order of
    `Columns.names` (or the reason why a row cannot be read), Arrow `batches`, or `documents`.
    """

    source: str
    first_row: int
    rows: Sequence[Any]
    kind: str
    position: int = 0
    unread_columns: Sequence[str] = ()
    """Columns of the source that are not read; lines of JSON have their own."""
    columns: "Columns | None" = None
    """Columns of the source that are read, where all rows have the same ones."""

    def size(self) -> int:
        """Return the approximate number of bytes of text in the block."""
        if self.kind == "batches":
            return sum(batch.nbytes for batch in self.rows)
        if self.kind == "documents":
            return sum(len(document.content) for document in self.rows)
        return sum(map(len, filter(None, self.rows))) if self.kind == "lines" else 100 * len(self.rows)


CHUNK_BYTES = 4 << 20


_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class UnreadableFileError(HeirloomError):
    """A file that is not of the format of its name; `reason` is equal for all files with the same problem."""

    def __init__(self, place: object, reason: str, advice: str = "") -> None:
        self.reason = reason
        # Messages of libraries may have several lines.
        message = " ".join(f"{place} {reason}{advice and '; ' + advice}".splitlines())
        super().__init__(message[:800].encode("utf-8", "replace").decode())


def require_columns(place: object, columns: Columns, present: Sequence[str], advice: str = "") -> None:
    """Check that each column to read exists, and only once.

    Raises:
        UnreadableFileError: a column is missing, or has the name of another one.
    """
    for name in columns.names:
        if name not in present:
            # With quotes around the names, spaces and unprintable characters in them are visible.
            listed = ", ".join(map(repr, present)) or "none"
            suggestion = f".{closest}" if (closest := did_you_mean(name, present)) else ""
            raise UnreadableFileError(place, f"has no column {name!r}", f"its columns: {listed}{advice}{suggestion}")
        if present.count(name) > 1:
            raise UnreadableFileError(
                place, f"has {present.count(name)} columns with the name {name!r}", "rename all but one of them"
            )


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    path: Path
    name: str
    kind: str
    """Suffix of its format; empty if it cannot be read."""
    compression: str | None
    size: int
    explicit: bool
    """Named by the user, not found in a folder."""
    ignored: str = ""
    """Reason for not reading it, if that follows from its place, name or type."""


def iter_lines(file: SourceFile, max_length: int) -> Iterator[tuple[list[bytes | None], int, str]]:
    """Yield lists of lines (None: a line is too long), the position, and a reason if the file is truncated."""
    tail, skipping = b"", False
    for chunk, position, broken in iter_chunks(file):
        if skipping:
            _, line_end, rest = chunk.partition(b"\n")
            skipping, tail = not line_end, rest
        else:
            tail += chunk
        lines: list[bytes | None] = []
        if not skipping:
            *whole, tail = tail.split(b"\n")
            # Most blocks have no long line: one fast pass avoids testing every line in Python.
            too_long = max(map(len, whole), default=0) > max_length
            lines += [None if len(line) > max_length else line for line in whole] if too_long else whole
            if len(tail) > max_length:
                lines.append(None)
                skipping, tail = True, b""
        if broken:
            yield [], position, truncation_reason(broken)
            return
        yield lines, position, ""
    if tail and not skipping:
        yield [tail], file.size, ""


def iter_chunks(file: SourceFile) -> Iterator[tuple[bytes, int, str]]:
    """Yield decompressed chunks, the position in the compressed file, and an error if the file is truncated.

    Raises:
        UnreadableFileError: it cannot be opened, is not compressed as its suffix implies, or is UTF-16.
    """
    num_bytes_read = 0
    try:
        raw = file.path.open("rb")
    except OSError as error:
        raise UnreadableFileError(file.path, "cannot be opened", error.strerror or "") from error
    with raw:
        content: Any = pa.CompressedInputStream(raw, file.compression) if file.compression else raw
        try:
            while chunk := content.read(CHUNK_BYTES):
                if not num_bytes_read and chunk.startswith(_UTF16_BOMS):
                    advice = f"convert it to UTF-8: iconv -f UTF-16 -t UTF-8 {file.path.name}"
                    raise UnreadableFileError(file.path, "is UTF-16", advice)
                yield chunk if num_bytes_read else chunk.removeprefix(_BOM), raw.tell(), ""
                num_bytes_read += len(chunk)
        except OSError as error:
            if not num_bytes_read:
                raise UnreadableFileError(file.path, f"is no whole {file.compression} file", one_line(error)) from error
            yield b"", raw.tell(), one_line(error)


def truncation_reason(error: str) -> str:
    """Return the reason for rejecting the rest of a truncated file."""
    return f"the rest cannot be read: {error}"
