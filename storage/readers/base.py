"""What a block is: some rows of a source, raw, and which columns of it hold what.

Nothing holds more of a file than one block. What a row says is read in `storage/readers/documents.py`, which may happen in
another process.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from heirloom.errors import HeirloomError

BLOCK_BYTES = 8 << 20


BLOCK_ROWS = 32_768


TOO_LONG = "longer than max_document_bytes"


NOT_UTF8 = "not UTF-8"


@dataclass(frozen=True)
class Columns:
    """Which columns of a source hold what, and how long a document may be."""

    text: str = "text"
    response: str | None = None
    document_id: str | None = None
    license: str | None = None
    source: str | None = None
    max_length: int = 16 << 20

    @property
    def names(self) -> list[str]:
        """Every column that is read, the text first."""
        found = (self.text, self.response, self.document_id, self.license, self.source)
        return list(dict.fromkeys(name for name in found if name))


class Document(NamedTuple):
    """A text or a conversation outside the system; `reason` is why it cannot come in, or empty."""

    content: Any
    source: str
    row_number: int
    license: str = ""
    document_id: str | None = None
    response: Any = None
    error: str = ""


@dataclass(frozen=True)
class Block:
    """Some rows of a source, the place of the first one, and how many bytes of the file lie before their end.

    `kind` says what the rows are: `lines` of JSON (None where one is too long), `rows` of cells in the order of
    `Columns.wanted` (or a reason), Arrow `batches`, or `documents`.
    """

    source: str
    first_row: int
    rows: Sequence[Any]
    kind: str
    position: int = 0

    def size(self) -> int:
        """About how many bytes of text the block holds."""
        if self.kind == "batches":
            return sum(batch.nbytes for batch in self.rows)
        if self.kind == "documents":
            return sum(len(document.content) for document in self.rows)
        return sum(map(len, filter(None, self.rows))) if self.kind == "lines" else 100 * len(self.rows)


CHUNK_BYTES = 4 << 20


_BOM = b"\xef\xbb\xbf"


class UnreadableFileError(HeirloomError):
    """A file that cannot be read as what its name says; `reason` is the same for all files of that fault."""

    def __init__(self, place: object, reason: str, advice: str = "") -> None:
        self.reason = reason
        # Names of columns come from the file: they may hold line ends, and what cannot be printed.
        said = " ".join(f"{place} {reason}{advice and '; ' + advice}".split())
        super().__init__(said[:800].encode("utf-8", "replace").decode())


@dataclass(frozen=True)
class SourceFile:
    """One file of a source; without a kind it cannot be read."""

    path: Path
    name: str
    kind: str
    compression: str | None
    size: int
    explicit: bool


def iter_lines(file: SourceFile, max_length: int) -> Iterator[tuple[list[bytes | None], int, str]]:
    """Lines by the block, None for one that is too long, with the position and why nothing follows."""
    tail, skipping = b"", False
    for chunk, position, broken in iter_chunks(file):
        if skipping:
            _, found, rest = chunk.partition(b"\n")
            skipping, tail = not found, rest
        else:
            tail += chunk
        lines: list[bytes | None] = []
        if not skipping:
            *whole, tail = tail.split(b"\n")
            # Two passes that cost nothing beside one that asks every line.
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
    """The content, unpacked, with the position in the packed file; at the end what broke it, if anything did.

    Raises:
        UnreadableFileError: it cannot be opened, or is not packed as its name says.
    """
    read = 0
    try:
        packed = file.path.open("rb")
    except OSError as error:
        raise UnreadableFileError(file.path, "cannot be opened", error.strerror or "") from error
    with packed:
        content: Any = pa.CompressedInputStream(packed, file.compression) if file.compression else packed
        try:
            while chunk := content.read(CHUNK_BYTES):
                yield chunk if read else chunk.removeprefix(_BOM), packed.tell(), ""
                read += len(chunk)
        except OSError as error:
            if not read:
                raise UnreadableFileError(
                    file.path, f"is no whole {file.compression} file", single_line(error)
                ) from error
            yield b"", packed.tell(), single_line(error)


def truncation_reason(error: str) -> str:
    """Why nothing more comes from a file that broke off."""
    return f"the rest cannot be read: {error}"


def single_line(error: Exception) -> str:
    """What a library says, fit for one sentence."""
    return " ".join(str(error).split())[:200]
