"""Many texts as one run of bytes: the form in which the kernels read them.

A text of ASCII alone keeps its bytes, and an Arrow column of such texts is not even copied: the kernels fold ASCII
themselves. Any other text is folded here (see `curation.text.fold`), before it is written as UTF-8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.text import fold

Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
"""Strings, or an Arrow column of them; a null is a text without words."""


@dataclass(frozen=True)
class FoldedTexts:
    """Texts one after the other; text `i` is `content[offsets[i] : offsets[i + 1]]`."""

    content: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def fold_texts(*columns: Texts) -> FoldedTexts:
    """All texts of these columns, in their order. A lone surrogate is kept as three bytes that are no letter."""
    if any(isinstance(column, pa.Array | pa.ChunkedArray) for column in columns):
        return _of_arrow(pa.chunked_array([chunk for column in columns for chunk in _chunks(column)], pa.large_string()))
    encoded = [
        text.encode() if text.isascii() else fold(text).encode("utf-8", "surrogatepass")
        for column in columns
        for text in column
    ]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return FoldedTexts(np.frombuffer(b"".join(encoded) or b"\0", np.uint8), offsets)


def _chunks(column: Texts) -> list[pa.Array]:
    """As 64-bit strings: two columns that are fine alone can pass 2 GB together."""
    if isinstance(column, pa.ChunkedArray):
        return [chunk.cast(pa.large_string()) for chunk in column.chunks]
    if isinstance(column, pa.Array):
        return [column.cast(pa.large_string())]
    return [pa.array([text.encode("utf-8", "replace").decode() for text in column], pa.large_string())]


def _of_arrow(column: pa.ChunkedArray) -> FoldedTexts:
    whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if whole.null_count:
        whole = pc.fill_null(whole, "")
    content, offsets = _buffers(whole)
    wide = _rows_beyond_ascii(content, offsets)
    if not wide.any():
        return FoldedTexts(content, offsets)
    folded = pa.array([fold(text) for text in whole.filter(pa.array(wide)).to_pylist()], pa.large_string())
    return FoldedTexts(*_buffers(pc.replace_with_mask(whole, pa.array(wide), folded)))


def _buffers(column: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    _, places, content = column.buffers()
    if not len(column) or content is None or not content.size:
        return np.zeros(1, np.uint8), np.zeros(len(column) + 1, np.int64)
    offsets = np.frombuffer(places, np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(content, np.uint8), offsets


def _rows_beyond_ascii(content: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each text holds a byte of 128 or more."""
    wide = np.zeros(len(offsets) - 1, bool)
    step = 1 << 20
    for start in range(int(offsets[0]), int(offsets[-1]), step):
        block = content[start : min(start + step, int(offsets[-1]))]
        if block.max() >= 128:
            places = start + np.flatnonzero(block >= 128)
            wide[np.searchsorted(offsets, places, side="right") - 1] = True
    return wide
