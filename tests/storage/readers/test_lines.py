"""Lines of plain and compressed files, and the limits of a block."""

from pathlib import Path

import pyarrow as pa
import pytest

from heirloom.errors import one_line
from storage.readers.base import (
    CHUNK_BYTES,
    Block,
    Columns,
    Document,
    SourceFile,
    UnreadableFileError,
    iter_chunks,
    iter_lines,
    truncation_reason,
)


def _file(path: Path, content: bytes, packing: str | None = None) -> SourceFile:
    path.write_bytes(content)
    return SourceFile(path, path.name, ".jsonl", packing, len(content), explicit=True)


def _lines(file: SourceFile, longest: int = 100) -> list[bytes | None]:
    return [line for lines, _, _ in iter_lines(file, longest) for line in lines]


def test_lines_are_the_same_wherever_chunks_end(tmp_path: Path) -> None:
    content = b"\n".join(b"%d" % number * 7 for number in range(CHUNK_BYTES // 20))
    assert len(content) > CHUNK_BYTES
    assert _lines(_file(tmp_path / "a", content)) == content.split(b"\n")


def test_a_line_that_is_too_long_is_passed_over_and_never_held(tmp_path: Path) -> None:
    long = b"x" * (2 * CHUNK_BYTES + 5)
    assert _lines(_file(tmp_path / "a", b"first\n" + long + b"\nlast")) == [b"first", None, b"last"]
    assert _lines(_file(tmp_path / "b", b"first\n" + b"x" * 101 + b"\nlast\n")) == [b"first", None, b"last"]
    assert _lines(_file(tmp_path / "c", b"first\n" + long)) == [b"first", None]


@pytest.mark.slow
def test_a_truncated_stream_yields_its_lines_and_the_reason(tmp_path: Path) -> None:
    lines = b"".join(b"line %d of this file\n" % number for number in range(2_000_000))
    packed = pa.compress(lines, "zstd", asbytes=True)
    found = list(iter_lines(_file(tmp_path / "a.zst", packed[: len(packed) // 2], "zstd"), 100))
    assert found[0][0][:2] == [b"line 0 of this file", b"line 1 of this file"]
    assert found[-1] == ([], len(packed) // 2, truncation_reason("Truncated compressed stream"))


def test_what_is_not_packed_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="is no whole gzip file; zlib inflate failed"):
        list(iter_chunks(_file(tmp_path / "a.gz", b"plain text", "gzip")))
    with pytest.raises(UnreadableFileError, match="cannot be opened"):
        list(iter_chunks(SourceFile(tmp_path / "gone", "gone", ".txt", None, 0, explicit=True)))


def test_a_refusal_can_be_printed_on_one_line() -> None:
    assert str(UnreadableFileError("a.csv", "is odd", "found: x\r\n\ud800")) == "a.csv is odd; found: x ?"
    assert one_line(OSError("two\nlines")) == "two lines"


def test_a_column_that_is_named_twice_is_read_once_and_the_text_comes_first() -> None:
    assert Columns("prompt", "answer", "id", "id").names == ["prompt", "answer", "id"]


def test_the_size_of_a_block_is_about_its_text_whatever_its_kind() -> None:
    assert Block("a", 0, [b"four", None, b"five"], "lines").size() == 8
    assert Block("a", 0, [Document("four", "a", 0)], "documents").size() == 4
    batch = pa.record_batch({"text": ["four"]})
    assert Block("a", 0, [batch, batch], "batches").size() == 2 * batch.nbytes
