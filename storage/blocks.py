"""What a block is: some rows of a source, raw, and which columns of it hold what.

Nothing holds more of a file than one block. What a row says is read in `storage/documents.py`, which may happen in
another process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

BLOCK_BYTES = 8 << 20
BLOCK_ROWS = 32_768
TOO_LONG = "longer than longest_document_bytes"
NOT_UTF8 = "not UTF-8"


@dataclass(frozen=True)
class Columns:
    """Which columns of a source hold what, and how long a document may be."""

    text: str = "text"
    response: str | None = None
    document: str | None = None
    licence: str | None = None
    source: str | None = None
    longest: int = 16 << 20

    @property
    def wanted(self) -> list[str]:
        """Every column that is read, the text first."""
        found = (self.text, self.response, self.document, self.licence, self.source)
        return list(dict.fromkeys(name for name in found if name))


class Document(NamedTuple):
    """A text or a conversation outside the system; `reason` is why it cannot come in, or empty."""

    content: Any
    source: str
    place: int
    licence: str = ""
    document: str | None = None
    response: Any = None
    reason: str = ""


@dataclass(frozen=True)
class Block:
    """Some rows of a source, the place of the first one, and how many bytes of the file lie before their end.

    `kind` says what the rows are: `lines` of JSON (None where one is too long), `rows` of cells in the order of
    `Columns.wanted` (or a reason), Arrow `batches`, or `documents`.
    """

    source: str
    place: int
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
