from pathlib import Path

import pytest

from storage.readers.base import BLOCK_ROWS, TOO_LONG, Block, Columns, SourceFile, UnreadableFileError
from storage.readers.documents import documents
from storage.readers.formats import READERS


def _blocks(path: Path, content: str, columns: Columns) -> list[Block]:
    path.write_text(content, newline="")
    return list(READERS[path.suffix](SourceFile(path, path.name, path.suffix, None, 0, explicit=True), columns))


def _said(path: Path, content: str, columns: Columns) -> list[tuple[str, str]]:
    blocks = _blocks(path, content, columns)
    return [(one.content, one.error) for block in blocks for one in documents(block, columns)]


def test_places_run_through_the_blocks_of_a_file(tmp_path: Path) -> None:
    rows = "".join(f"{number}\n" for number in range(BLOCK_ROWS + 10))
    blocks = _blocks(tmp_path / "a.csv", "text\n" + rows, Columns())
    assert [(block.first_row, len(block.rows)) for block in blocks] == [(0, BLOCK_ROWS), (BLOCK_ROWS, 10)]
    found = [one for block in blocks for one in documents(block, Columns())]
    assert all(one.content == str(one.row_number) for one in found)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "good"}\n{"text": "' + "x" * 2000 + '"}\n{"text": "last"}\n'),
        ("a.csv", "text\ngood\n" + "x" * 2000 + "\nlast\n"),
        ("a.csv", 'text\ngood\n"never closed' + " and on" * 20 + "\n" + ("y" * 400 + "\n") * 3),
        ("a.txt", "x" * 2000),
    ],
)
def test_what_is_too_long_is_set_aside_alone(name: str, content: str, tmp_path: Path) -> None:
    said = _said(tmp_path / name, content, Columns(max_length=1024))
    assert ("", TOO_LONG) in said
    assert name == "a.txt" or said[0] == ("good", "")


def test_csv_keeps_line_ends_in_quotes_and_the_last_of_two_columns_of_a_name(tmp_path: Path) -> None:
    content = 'text,text\r\nno,"one\r\ntwo"\r\n'
    assert _said(tmp_path / "a.csv", content, Columns()) == [("one\r\ntwo", "")]


def test_a_table_without_a_header_that_can_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"is not CSV; longer than max_document_bytes"):
        _said(tmp_path / "a.csv", "x" * 2000, Columns(max_length=1024))
    with pytest.raises(UnreadableFileError, match=r"has no column 'license'; its columns: text"):
        _said(tmp_path / "b.csv", "text\nx\n", Columns(license="license"))
