import numpy as np
import pyarrow as pa
import pytest

from curation.dedup.kernels.text_buffer import TextBuffer, to_text_buffer
from curation.text import casefold_nfc


def _texts_of(buffer: TextBuffer) -> list[str]:
    return [
        buffer.content[start:stop].tobytes().decode("utf-8", "surrogatepass")
        for start, stop in zip(buffer.starts, buffer.stops, strict=True)
    ]


TEXTS = ["Plain ASCII stays", "", "STRASSE and Straße", "cafe\u0301", "日本", "another PLAIN one"]
FOLDED = ["Plain ASCII stays", "", casefold_nfc("STRASSE and Straße"), "café", "日本", "another PLAIN one"]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_columns_and_strings_are_folded_alike(kind: pa.DataType) -> None:
    column = pa.array(["left out", *TEXTS, "too"]).cast(kind).slice(1, len(TEXTS))
    assert _texts_of(to_text_buffer(column)) == _texts_of(to_text_buffer(TEXTS)) == FOLDED
    assert to_text_buffer(column).sizes.tolist() == [len(text.encode()) for text in FOLDED]


def test_several_columns_are_concatenated() -> None:
    pieces = pa.chunked_array([pa.array(TEXTS[:2]), pa.array([], pa.string()), pa.array(TEXTS[2:])])
    assert _texts_of(to_text_buffer(pieces, ["Ä"], pa.array(["end"]))) == [*FOLDED, "ä", "end"]
    assert len(to_text_buffer(pieces, ["Ä"])) == 7


def test_a_null_is_an_empty_text() -> None:
    assert _texts_of(to_text_buffer(pa.array(["a", None, "É"]))) == ["a", "", "é"]
    assert _texts_of(to_text_buffer(pa.array([None, None], pa.string()))) == ["", ""]


def test_empty_columns_give_an_empty_buffer() -> None:
    for empty in ([], pa.array([], pa.string()), pa.chunked_array([], pa.string())):
        assert len(to_text_buffer(empty)) == 0
    assert len(to_text_buffer()) == 0


def test_a_lone_surrogate_is_kept() -> None:
    assert _texts_of(to_text_buffer(["a \ud800 b"])) == ["a \ud800 b"]


def test_a_column_of_ascii_is_not_copied() -> None:
    column = pa.array(["one", "two"], pa.large_string())
    assert np.shares_memory(to_text_buffer(column).content, np.frombuffer(column.buffers()[2], np.uint8))


def test_two_columns_are_addressed_beyond_two_gigabytes() -> None:
    # One long text held in many chunks: the bytes are shared, and only their places pass 2 GB.
    chunk = pa.array(["x" * (1 << 20)])
    half = pa.chunked_array([chunk] * 1100)
    buffer = to_text_buffer(half, pa.chunked_array([chunk] * 1100))
    assert buffer.stops[-1] == 2200 << 20
    assert buffer.stops[-1] > np.iinfo(np.int32).max
    assert (buffer.sizes == 1 << 20).all()
    assert bytes(buffer.content[-3:]) == b"xxx"
