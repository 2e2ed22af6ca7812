"""Concatenate texts into one byte array, the input format of the kernels.

Prose in ASCII, and prose whose other characters folding leaves unchanged, keeps its bytes: an Arrow column of such
texts is not even copied, since the kernels fold ASCII themselves. Any other text, and all code, is folded here
(`curation.text.fold`) before it is encoded as UTF-8.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.dedup.kernels.types import Bytes, Indices
from curation.text import Normalization, fold, fold_invariant_codepoints

Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
"""Strings, or an Arrow column of them; a null is a text without tokens."""


@dataclass(frozen=True)
class TextBuffer:
    """Texts as one byte array: text `i` is `content[starts[i] : stops[i]]`."""

    content: Bytes
    starts: Indices
    stops: Indices

    def __post_init__(self) -> None:
        # numba compiles a second version for writable arrays, so all are made read-only.
        for array in (self.content, self.starts, self.stops):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sizes(self) -> Indices:
        """Bytes of each text."""
        return self.stops - self.starts

    def padded(self, count: int) -> "TextBuffer":
        """Return the same texts after `count` empty ones."""
        blank = np.zeros(count, np.int64)
        return TextBuffer(self.content, np.concatenate((blank, self.starts)), np.concatenate((blank, self.stops)))

    def with_rows(self, rows: Indices, texts: "TextBuffer") -> "TextBuffer":
        """Return the same texts, with those at `rows` replaced by `texts`."""
        starts, stops = self.starts.copy(), self.stops.copy()
        starts[rows], stops[rows] = texts.starts + len(self.content), texts.stops + len(self.content)
        return TextBuffer(np.concatenate((self.content, texts.content)), starts, stops)


def to_text_buffer(*columns: Texts, normalization: Normalization = "text") -> TextBuffer:
    """Concatenate all texts of these columns in order, folded.

    A lone surrogate is kept as three bytes that are not a letter.
    """
    builder = _BufferBuilder()
    for column in columns:
        if normalization == "code":
            texts = column.to_pylist() if isinstance(column, pa.Array | pa.ChunkedArray) else column
            encoded = [_fold_and_encode(text or "", normalization) for text in texts]
            builder.append_texts(*builder.append_bytes(encoded))
            continue
        if isinstance(column, pa.ChunkedArray):
            chunks = column.chunks
        elif isinstance(column, pa.Array):
            chunks = [column]
        else:
            encoded = [text.encode() if text.isascii() else _fold_and_encode(text) for text in column]
            builder.append_texts(*builder.append_bytes(encoded))
            continue
        for chunk in chunks:
            _append_chunk(builder, pc.fill_null(chunk.cast(pa.large_string()), ""))
    # A single array is viewed instead of copied.
    contents = builder.contents
    content = contents[0].view() if len(contents) == 1 else np.concatenate([_NO_BYTES, *contents])
    return TextBuffer(
        content, np.concatenate([_NO_INDICES, *builder.starts]), np.concatenate([_NO_INDICES, *builder.stops])
    )


_FIRST_MULTIBYTE = 0xC0
"""Smallest byte that begins a UTF-8 character of more than one byte."""
_STRETCH = 512
_NO_BYTES, _NO_INDICES = np.zeros(0, np.uint8), np.zeros(0, np.int64)


@dataclass
class _BufferBuilder:
    """Byte arrays to concatenate, and the texts within them."""

    size: int = 0
    contents: list[Bytes] = field(default_factory=list)
    starts: list[Indices] = field(default_factory=list)
    stops: list[Indices] = field(default_factory=list)

    def append(self, content: Bytes) -> int:
        """Append a byte array; return its offset in the result."""
        self.contents.append(content)
        self.size += len(content)
        return self.size - len(content)

    def append_bytes(self, encoded: list[bytes]) -> tuple[Indices, Indices]:
        """Append byte strings; return the offsets at which each begins and ends."""
        begin = self.append(np.frombuffer(b"".join(encoded), np.uint8))
        edges = np.cumsum([begin, *map(len, encoded)], dtype=np.int64)
        return edges[:-1], edges[1:]

    def append_texts(self, starts: Indices, stops: Indices) -> None:
        """Declare the next texts by their offsets."""
        self.starts.append(starts)
        self.stops.append(stops)


def _append_chunk(builder: _BufferBuilder, column: pa.Array) -> None:
    """Append the bytes of an Arrow chunk without a copy, followed by the texts that had to be folded."""
    _, offset_buffer, content = column.buffers()
    if not len(column) or content is None or not content.size:
        builder.append_texts(*builder.append_bytes([b""] * len(column)))
        return
    offsets = np.frombuffer(offset_buffer, np.int64)[column.offset : column.offset + len(column) + 1]
    begin = builder.append(np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]) - int(offsets[0])
    starts, stops = offsets[:-1] + begin, offsets[1:] + begin
    rows = _rows_to_fold(builder.contents[-1], starts - starts[0])
    if len(rows):
        folded = [_fold_and_encode(text) for text in column.take(pa.array(rows)).to_pylist()]
        starts[rows], stops[rows] = builder.append_bytes(folded)
    builder.append_texts(starts, stops)


def decode_non_ascii(content: Bytes) -> tuple[Indices, Indices, Indices]:
    """Return the offset, the code point and the number of bytes of each non-ASCII character of UTF-8 bytes."""
    # Most stretches of most texts are ASCII: look closely only at those with a large byte.
    stretches = content[: len(content) // _STRETCH * _STRETCH].reshape(-1, _STRETCH)
    non_ascii = np.flatnonzero(stretches.max(1, initial=0) >= _FIRST_MULTIBYTE)
    stretch, inside = np.nonzero(stretches[non_ascii] >= _FIRST_MULTIBYTE)
    rest = np.flatnonzero(content[stretches.size :] >= _FIRST_MULTIBYTE) + stretches.size
    offsets = np.concatenate((non_ascii[stretch] * _STRETCH + inside, rest))
    points = content[offsets].astype(np.int64)
    widths = 2 + (points >= 0xE0) + (points >= 0xF0)
    points &= 0x7F >> widths
    for step in (1, 2, 3):
        continuation = content[np.minimum(offsets + step, len(content) - 1)] & 0x3F
        points = np.where(widths > step, points << 6 | continuation, points)
    return offsets, points, widths


def _rows_to_fold(content: Bytes, starts: Indices) -> Indices:
    """Return the rows of the texts with a non-ASCII character that folding may change."""
    offsets, points, _ = decode_non_ascii(content)
    changing = offsets[~fold_invariant_codepoints()[points]] if len(offsets) else _NO_INDICES
    return np.unique(np.searchsorted(starts, changing, side="right") - 1)


def _fold_and_encode(text: str, normalization: Normalization = "text") -> bytes:
    return fold(text, normalization).encode("utf-8", "surrogatepass")
