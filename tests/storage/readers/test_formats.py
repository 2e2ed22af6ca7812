import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.readers.base import BLOCK_ROWS, TOO_LONG, Block, Columns, SourceFile, UnreadableFileError
from storage.readers.documents import documents
from storage.readers.formats import READERS


def _blocks(path: Path, content: str, columns: Columns) -> list[Block]:
    path.write_text(content, newline="")
    return list(READERS[path.suffix](SourceFile(path, path.name, path.suffix, None, 0, explicit=True), columns))


def _contents(path: Path, content: str, columns: Columns) -> list[tuple[str, str]]:
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
        ("a.csv", 'text\ngood\n"a book' + " and on" * 20 + "\n" + ("y" * 400 + "\n") * 3 + '"\n'),
        ("a.txt", "x" * 2000),
    ],
)
def test_what_is_too_long_is_set_aside_alone(name: str, content: str, tmp_path: Path) -> None:
    contents = _contents(tmp_path / name, content, Columns(max_length=1024))
    assert ("", TOO_LONG) in contents
    assert name == "a.txt" or contents[0] == ("good", "")


def test_csv_keeps_line_ends_in_quotes(tmp_path: Path) -> None:
    content = 'n,text\r\nno,"one\r\ntwo"\r\n'
    assert _contents(tmp_path / "a.csv", content, Columns()) == [("one\r\ntwo", "")]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_two_columns_with_the_name_of_a_wanted_column_are_refused(name: str, tmp_path: Path) -> None:
    content = "n,text,text,more,more\n1,a,b,c,d\n".replace(",", "\t" if name == "a.tsv" else ",")
    with pytest.raises(UnreadableFileError, match=r"has 2 columns with the name 'text'; rename all but one"):
        _contents(tmp_path / name, content, Columns())
    assert _contents(tmp_path / name, content, Columns("n")) == [("1", "")]


def test_a_row_with_another_number_of_cells_than_the_header_is_rejected(tmp_path: Path) -> None:
    content = 'id,text\n0,Well, the kettle\n1,"Well, the lantern"\n2\n3,last,\n4,good\n'
    assert _contents(tmp_path / "a.csv", content, Columns()) == [
        ("", "more cells than the header"),
        ("Well, the lantern", ""),
        ("", "fewer cells than the header"),
        ("", "more cells than the header"),
        ("good", ""),
    ]


def test_an_open_quote_rejects_its_own_row_only(tmp_path: Path) -> None:
    rows = ["0,first", '1,"never closed', "2,second", "", "3,third"]
    expected = [("first", ""), ("", "not CSV: a quote is not closed"), ("second", ""), ("third", "")]
    assert _contents(tmp_path / "a.csv", "\n".join(["id,text", *rows]), Columns()) == expected
    # Another quote further down ends the cell, and what follows it shows that it was no closing quote.
    followed = _contents(tmp_path / "a.csv", "\n".join(["id,text", *rows, '4,"a, b"', '5,"c"']), Columns())
    assert followed == [
        ("first", ""),
        ("", "not CSV: text after a closing quote"),
        ("second", ""),
        ("third", ""),
        ("a, b", ""),
        ("c", ""),
    ]


def test_quotes_escaped_with_a_backslash_are_rejected_unless_the_escape_is_set(tmp_path: Path) -> None:
    content = 'id,text\n1,"He cried \\"wait, not yet\\" and\nleft the house."\n2,"C:\\new"\n'
    assert _contents(tmp_path / "a.csv", content, Columns()) == [
        ("", "not CSV: text after a closing quote"),
        ("", "fewer cells than the header"),
        ("C:\\new", ""),
    ]
    texts = _contents(tmp_path / "a.csv", content, Columns(escape="\\"))
    assert texts[0] == ('He cried "wait, not yet" and\nleft the house.', "")


def test_the_rest_of_a_rejected_cell_is_no_text(tmp_path: Path) -> None:
    content = 'text\n"She cried \\"so\\"\nand left."\ngood\n'
    reason = "not CSV: text after a closing quote"
    assert _contents(tmp_path / "a.csv", content, Columns()) == [("", reason), ("", reason), ("good", "")]


def test_an_open_quote_in_a_long_file_rejects_its_own_row_only(tmp_path: Path) -> None:
    rows = [f"row {number} " + "x" * 100 for number in range(50)]
    content = "\n".join(["text", '"never closed', *rows])
    expected = [("", "not CSV: a quote is not closed"), *((row, "") for row in rows)]
    assert _contents(tmp_path / "a.csv", content, Columns(max_length=1024)) == expected
    book = '"' + "\n".join(rows) + '"'
    texts = _contents(tmp_path / "b.csv", f"text\none\n{book}\ntwo", Columns(max_length=1024))
    assert texts == [("one", ""), ("", TOO_LONG), ("two", "")]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ('"5 inch" screws hold the frame', '"5 inch" screws hold the frame'),
        ('"never closed', '"never closed'),
        ('the 5" pipe', 'the 5" pipe'),
        ('"A" and "B"', '"A" and "B"'),
        ('"with a ""word"" in quotes"', 'with a "word" in quotes'),
        ('"with a\ttab and\na line break"', "with a\ttab and\na line break"),
        ("plain", "plain"),
    ],
)
def test_quotes_of_tsv_stay_in_the_text_unless_the_cell_is_quoted_completely(
    row: str, text: str, tmp_path: Path
) -> None:
    content = f'id\ttext\n0\t{row}\n1\tnext 5"\n'
    assert _contents(tmp_path / "a.tsv", content, Columns()) == [(text, ""), ('next 5"', "")]


def test_delimiter_and_quote_can_be_set(tmp_path: Path) -> None:
    semicolons = Columns(delimiter=";", quote="'")
    assert _contents(tmp_path / "a.csv", "id;text\n1;'one; \"two\"'\n", semicolons) == [('one; "two"', "")]
    assert _contents(tmp_path / "a.tsv", 'id\ttext\n1\t"one"\n', Columns(quote="")) == [('"one"', "")]


def test_a_file_with_another_delimiter_is_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"its columns: 'id;text'; .* pass `--set csv_delimiter=';'`"):
        _contents(tmp_path / "a.csv", "id;text\n1;one\n", Columns())


def test_spaces_in_the_name_of_a_column_are_visible(tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableFileError,
        match=r"has no column 'text'; its columns: 'id', '  text', 'a\\nb'\. Did you mean `  text`\?$",
    ):
        _contents(tmp_path / "a.csv", 'id,  text,"a\nb"\n0, one,x\n', Columns())


_PIECES = st.sampled_from(["a", "é", " ", ",", '"', "\t", "\n", "\r\n", "\r", ";", "\\", "日"])
_CELLS = st.lists(_PIECES, min_size=1).map("".join)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.lists(st.tuples(_CELLS, _CELLS), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_csv_reads_back_what_the_csv_module_writes(rows: list[tuple[str, str]], quoting: int) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=quoting).writerows([("id", "text"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        assert _contents(Path(folder, "a.csv"), written.getvalue(), Columns()) == [(text, "") for _, text in rows]


def test_a_table_without_a_header_that_can_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"is not CSV; longer than max_document_bytes"):
        _contents(tmp_path / "a.csv", "x" * 2000, Columns(max_length=1024))
    with pytest.raises(UnreadableFileError, match=r"has no column 'license'; its columns: 'text'"):
        _contents(tmp_path / "b.csv", "text\nx\n", Columns(license="license"))


def test_a_byte_order_mark_within_a_file_stays_part_of_the_text(tmp_path: Path) -> None:
    content = "\ufefftext\n\ufeffone\n\ufeff\ntwo\ufeff\n"
    assert _contents(tmp_path / "a.csv", content, Columns()) == [("\ufeffone", ""), ("\ufeff", ""), ("two\ufeff", "")]


def test_a_tsv_file_with_a_quoted_header_is_quoted(tmp_path: Path) -> None:
    # Each line of the record has as many tabs as the header, so that without the header it would be two rows.
    record = '"2"\t"one\ncried\tso"\n'
    assert _contents(tmp_path / "a.tsv", '"id"\t"text"\n' + record, Columns()) == [("one\ncried\tso", "")]
    assert _contents(tmp_path / "b.tsv", "id\ttext\n" + record, Columns()) == [('"one', ""), ('so"', "")]
