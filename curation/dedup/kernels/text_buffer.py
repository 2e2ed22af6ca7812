"""Many texts as one run of bytes: the form in which the kernels read them.

A text of ASCII and of characters that folding leaves alone keeps its bytes, and an Arrow column of such texts is not even copied:
the kernels fold ASCII themselves. Any other text is folded here (see `curation.text.casefold_nfc`), before it is written as UTF-8.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.text import casefold_invariant_codepoints, casefold_nfc

Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
"""Strings, or an Arrow column of them; a null is a text without words."""
Places: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class TextBuffer:
    """Text `i` is `content[starts[i] : stops[i]]`."""

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def __post_init__(self) -> None:
        # To a compiled kernel, arrays that may be written to are of another type.
        for array in (self.content, self.starts, self.stops):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each text."""
        return self.stops - self.starts

    def padded(self, count: int) -> "TextBuffer":
        """The same texts behind so many that are empty."""
        blank = np.zeros(count, np.int64)
        return TextBuffer(self.content, np.concatenate((blank, self.starts)), np.concatenate((blank, self.stops)))

    def with_rows(self, rows: NDArray[np.int64], texts: "TextBuffer") -> "TextBuffer":
        """The same texts but for those at `rows`."""
        starts, stops = self.starts.copy(), self.stops.copy()
        starts[rows], stops[rows] = texts.starts + len(self.content), texts.stops + len(self.content)
        return TextBuffer(np.concatenate((self.content, texts.content)), starts, stops)


def to_text_buffer(*columns: Texts) -> TextBuffer:
    """All texts of these columns, in their order. A lone surrogate is kept as three bytes that are no letter."""
    pile = _Pile()
    for column in columns:
        if isinstance(column, pa.Array | pa.ChunkedArray):
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                _lay_chunk(pile, pc.fill_null(chunk.cast(pa.large_string()), ""))
        else:
            pile.texts(*pile.lay([text.encode() if text.isascii() else _folded(text) for text in column]))
    # What comes alone is not copied.
    content = pile.contents[0].view() if len(pile.contents) == 1 else np.concatenate([_NOTHING, *pile.contents])
    return TextBuffer(content, np.concatenate([_NOWHERE, *pile.starts]), np.concatenate([_NOWHERE, *pile.stops]))


_TWO_BYTES = 0xC0
"""Of UTF-8, the least byte that begins a character of more than one."""
_STRETCH = 512
_NOTHING, _NOWHERE = np.zeros(0, np.uint8), np.zeros(0, np.int64)


@dataclass
class _Pile:
    """Contents that will lie one after the other, and the texts in them."""

    filled: int = 0
    contents: list[NDArray[np.uint8]] = field(default_factory=list)
    starts: list[NDArray[np.int64]] = field(default_factory=list)
    stops: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, content: NDArray[np.uint8]) -> int:
        """Add a content; returns where it will begin."""
        self.contents.append(content)
        self.filled += len(content)
        return self.filled - len(content)

    def lay(self, encoded: list[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Add these; returns where each begins and ends."""
        begin = self.add(np.frombuffer(b"".join(encoded), np.uint8))
        edges = np.cumsum([begin, *map(len, encoded)], dtype=np.int64)
        return edges[:-1], edges[1:]

    def texts(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """The next texts are these."""
        self.starts.append(starts)
        self.stops.append(stops)


def _lay_chunk(pile: _Pile, column: pa.Array) -> None:
    """The chunk as it lies there, and behind it what had to be folded."""
    _, places, content = column.buffers()
    if not len(column) or content is None or not content.size:
        pile.texts(*pile.lay([b""] * len(column)))
        return
    offsets = np.frombuffer(places, np.int64)[column.offset : column.offset + len(column) + 1]
    begin = pile.add(np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]]) - int(offsets[0])
    starts, stops = offsets[:-1] + begin, offsets[1:] + begin
    rows = _unsettled(pile.contents[-1], starts - starts[0])
    if len(rows):
        starts[rows], stops[rows] = pile.lay([_folded(text) for text in column.take(pa.array(rows)).to_pylist()])
    pile.texts(starts, stops)


def decode_non_ascii(content: NDArray[np.uint8]) -> tuple[Places, Places, Places]:
    """Where characters beyond ASCII begin in UTF-8, which code points they are, and how many bytes they take."""
    # Most stretches of most texts have none.
    whole = content[: len(content) // _STRETCH * _STRETCH].reshape(-1, _STRETCH)
    some = np.flatnonzero(whole.max(1, initial=0) >= _TWO_BYTES)
    stretch, inside = np.nonzero(whole[some] >= _TWO_BYTES)
    rest = np.flatnonzero(content[whole.size :] >= _TWO_BYTES) + whole.size
    places = np.concatenate((some[stretch] * _STRETCH + inside, rest))
    points = content[places].astype(np.int64)
    widths = 2 + (points >= 0xE0) + (points >= 0xF0)
    points &= 0x7F >> widths
    for place in (1, 2, 3):
        six = content[np.minimum(places + place, len(content) - 1)] & 0x3F
        points = np.where(widths > place, points << 6 | six, points)
    return places, points, widths


def _unsettled(content: NDArray[np.uint8], starts: Places) -> Places:
    """Rows of the texts that folding may change, beyond ASCII."""
    places, points, _ = decode_non_ascii(content)
    changing = places[~casefold_invariant_codepoints()[points]] if len(places) else _NOWHERE
    return np.unique(np.searchsorted(starts, changing, side="right") - 1)


def _folded(text: str) -> bytes:
    return casefold_nfc(text).encode("utf-8", "surrogatepass")
