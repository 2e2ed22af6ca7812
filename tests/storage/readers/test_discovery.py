import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.readers.base import Columns, Document
from storage.readers.discovery import PYTHON_DOCS, find_files, read_sources
from storage.readers.documents import documents
from storage.readers.python_docs import LICENSE

TEXTS = ["One text.", "Zwei: Grüße, 日本語 👋", "Three, with a comma\nand a second line"]


def _jsonl(path: Path, texts: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text, "n": 1}) + "\n" for text in texts))


def _separated(mark: str) -> Callable[[Path, list[str]], None]:
    def write(path: Path, texts: list[str]) -> None:
        path.write_text(f"n{mark}text\n" + "".join(f'1{mark}"{text}"\n' for text in texts), encoding="utf-8")

    return write


def _parquet(path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"n": [1] * len(texts), "text": texts}), path)


_WRITERS = {".jsonl": _jsonl, ".csv": _separated(","), ".tsv": _separated("\t"), ".parquet": _parquet}


def _read(path: Path, column: str = "text") -> list[Document]:
    columns = Columns(column)
    blocks = read_sources([(str(path), find_files(str(path)))], columns)
    return [document for several in blocks for block in several for document in documents(block, columns)]


def _contents(path: Path, column: str = "text") -> list[tuple[str, str]]:
    return [(document.content, document.error) for document in _read(path, column)]


@pytest.mark.parametrize("kind", _WRITERS)
def test_every_kind_of_table_gives_its_texts_with_their_places(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"letters{kind}"
    _WRITERS[kind](path, TEXTS)
    assert _read(path) == [Document(text, path.name, place) for place, text in enumerate(TEXTS)]


@pytest.mark.parametrize("kind", [".txt", ".md"])
def test_a_text_or_markdown_file_is_one_document(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"letter{kind}"
    path.write_bytes("# Grüße\r\n\r\nAll of it.\n".encode())
    assert _read(path) == [Document("# Grüße\r\n\r\nAll of it.\n", path.name, 0)]


@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".tsv", ".txt", ".md"])
def test_a_byte_order_mark_is_no_part_of_the_text(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"letters{kind}"
    _WRITERS.get(kind, lambda where, texts: where.write_text(texts[0]))(path, ["Hello"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert _contents(path) == [("Hello", "")]


def test_every_kind_of_file_in_a_folder_is_read_in_order_of_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    (folder / "deep" / "er").mkdir(parents=True)
    for kind, write in _WRITERS.items():
        write(folder / f"b{kind}", ["x"])
    (folder / "a.txt").write_text("first")
    (folder / "deep" / "er" / "c.md").write_text("last")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    found = _read(folder)
    assert [document.source for document in found] == [
        "a.txt",
        "b.csv",
        "b.jsonl",
        "b.parquet",
        "b.tsv",
        "deep/er/c.md",
        "picture.png",
    ]
    assert [document.content for document in found] == ["first", "x", "x", "x", "x", "last", ""]
    assert found[-1].error == "of no known kind"


def test_a_folder_named_like_a_file_is_walked_and_not_opened(tmp_path: Path) -> None:
    for name in ("notes.md", "table.parquet"):
        (tmp_path / "all" / name).mkdir(parents=True)
    _parquet(tmp_path / "all" / "table.parquet" / "part-0.parquet", ["x"])
    (tmp_path / "all" / "notes.md" / "one.md").write_text("y")
    assert [document.source for document in _read(tmp_path / "all")] == [
        "notes.md/one.md",
        "table.parquet/part-0.parquet",
    ]


@pytest.mark.parametrize("kind", [".txt", ".md"])
def test_a_text_that_is_not_utf8_is_set_aside(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"bad{kind}").write_bytes(b"caf\xe9")
    assert _contents(tmp_path / f"bad{kind}") == [("", "not UTF-8")]


def test_lines_of_json_that_hold_no_text_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    lines = [
        b'{"text": "good"}',
        b"",
        b"   ",
        b'{"text": "caf\xe9"}',
        b'{"text": "cut',
        b'["text"]',
        b'{"text": 7}',
        b'{"title": "x"}',
        b"[" * 100_000,
        b'{"text": ' + b"9" * 5000 + b"}",
        b'{"text": "last"}',
    ]
    (tmp_path / "mixed.jsonl").write_bytes(b"\r\n".join(lines))
    assert _contents(tmp_path / "mixed.jsonl") == [
        ("good", ""),
        ("", "not UTF-8"),
        ("", "not JSON"),
        ("", "not a JSON object"),
        ("", "no text in column text"),
        ("", "no text in column text"),
        ("", "not JSON"),
        ("", "not JSON"),
        ("last", ""),
    ]


@pytest.mark.parametrize(("kind", "mark"), [(".csv", b","), (".tsv", b"\t")])
def test_rows_that_hold_no_text_are_set_aside_with_the_reason(kind: str, mark: bytes, tmp_path: Path) -> None:
    rows = [b"n,text", b"1,good", b"", b"2,caf\xe9", b"3,", b"4", b"caf\xe9,other", b"5,one,more", b"6,last"]
    (tmp_path / f"mixed{kind}").write_bytes(b"\n".join(rows).replace(b",", mark))
    assert _contents(tmp_path / f"mixed{kind}") == [
        ("good", ""),
        ("", "not UTF-8"),
        ("", "no text in column text"),
        ("", "fewer cells than the header"),
        ("other", ""),
        ("", "more cells than the header"),
        ("last", ""),
    ]


def test_a_whole_book_fits_in_one_field(tmp_path: Path) -> None:
    book = "All of it. " * 30_000
    (tmp_path / "book.csv").write_text(f'text\n"{book}"\n')
    assert _contents(tmp_path / "book.csv") == [(book, "")]


def test_a_parquet_row_without_text_is_set_aside(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["good", None, ""], "n": [1, 2, 3]}), tmp_path / "mixed.parquet")
    assert _contents(tmp_path / "mixed.parquet") == [("good", ""), ("", "no text in column text"), ("", "")]
    assert _contents(tmp_path / "mixed.parquet", "n") == [("", "no text in column n")] * 3


def test_a_lone_surrogate_comes_through_for_ingest_to_replace(tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"text": "a \\ud800 b"}\n{"text": "\\ud83d\\udc4b"}\n')
    assert _contents(tmp_path / "odd.jsonl") == [("a \ud800 b", ""), ("👋", "")]


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet"])
def test_a_column_that_is_not_there_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"letters{kind}"
    _WRITERS[kind](path, TEXTS)
    with pytest.raises(ValueError, match=r"no column 'body'") as refused:
        _read(path, "body")
    assert "its columns: 'n', 'text'" in str(refused.value)


@pytest.mark.parametrize("kind", _WRITERS)
def test_another_column_can_be_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"letters{kind}"
    _WRITERS[kind](path, ["x"])
    renamed = path.read_bytes().replace(b"text", b"body") if kind != ".parquet" else None
    if renamed:
        path.write_bytes(renamed)
    else:
        pq.write_table(pa.table({"body": ["x"]}), path)
    assert _contents(path, "body") == [("x", "")]


def test_a_table_in_utf16_is_refused_in_a_sentence_that_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / "wide.csv").write_bytes("text,n\nhello,1\n".encode("utf-16"))
    with pytest.raises(ValueError, match="is UTF-16; convert it to UTF-8") as refused:
        _read(tmp_path / "wide.csv")
    assert str(refused.value).encode()


def test_empty_files_are_refused_or_hold_nothing(tmp_path: Path) -> None:
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.txt", "a.parquet"):
        (tmp_path / name).write_bytes(b"")
    for name in ("a.csv", "a.tsv"):
        with pytest.raises(ValueError, match="its columns: none"):
            _read(tmp_path / name)
    with pytest.raises(ValueError, match="is not a Parquet file"):
        _read(tmp_path / "a.parquet")
    assert _read(tmp_path / "a.jsonl") == []
    assert _contents(tmp_path / "a.txt") == [("", "")]


def test_what_is_not_there_of_no_known_kind_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; name a file, a folder, python-docs, or"):
        _read(tmp_path / "nowhere.jsonl")
    (tmp_path / "letter.docx").write_bytes(b"PK")
    with pytest.raises(
        ValueError, match=r"letter\.docx is of no known kind; known kinds: \.jsonl, \.ndjson, \.parquet"
    ):
        _read(tmp_path / "letter.docx")
    with pytest.raises(ValueError, match="holds no file to read"):
        _read(tmp_path)


@pytest.mark.slow
def test_the_docstrings_of_python_have_a_name_and_a_license() -> None:
    together = next(read_sources([(PYTHON_DOCS, find_files(PYTHON_DOCS))], Columns()))
    first, second = (block.rows[0] for block in together[:2])
    assert (first.row_number, second.row_number, first.license) == (0, 1, LICENSE)
    assert first.content
    assert first.source.endswith(".py")


@pytest.mark.parametrize("packing", [".gz", ".zst"])
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".tsv", ".txt", ".md"])
def test_a_packed_file_is_read_like_the_file_in_it(kind: str, packing: str, tmp_path: Path) -> None:
    plain = tmp_path / f"letters{kind}"
    _WRITERS.get(kind, lambda where, texts: where.write_text(texts[0]))(plain, TEXTS)
    packed = tmp_path / f"letters{kind.upper()}{packing}"
    packed.write_bytes(_pack(plain.read_bytes(), packing))
    assert _contents(packed) == _contents(plain)
    assert _read(packed)[0].source == packed.name


def _pack(content: bytes, packing: str) -> bytes:
    return gzip.compress(content) if packing == ".gz" else pa.compress(content, "zstd", asbytes=True)


def test_a_pattern_names_files_by_what_follows_its_fixed_part(tmp_path: Path) -> None:
    for name in ("a/one.jsonl", "b/one.JSONL", "b/two.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "x"}')
    assert [file.name for file in find_files(f"{tmp_path}/*/one.*")] == ["a/one.jsonl", "b/one.JSONL"]
    assert [document.source for document in _read(Path(f"{tmp_path}/**/*.txt"))] == ["b/two.txt"]


def test_a_broken_file_is_refused_when_named_and_set_aside_when_found(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.parquet").write_bytes(b"PAR1 it is not")
    (tmp_path / "all" / "b.csv").write_text("title\nx\n")
    (tmp_path / "all" / "c.txt").write_text("good")
    assert _contents(tmp_path / "all") == [("", "is not a Parquet file"), ("", "has no column 'text'"), ("good", "")]
    with pytest.raises(ValueError, match="is not a Parquet file"):
        _read(tmp_path / "all" / "a.parquet")


def test_small_files_come_together(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}.txt").write_text(str(number))
    blocks = list(read_sources([(str(tmp_path), find_files(str(tmp_path)))], Columns()))
    assert [len(together) for together in blocks] == [30]
    assert blocks[0][-1].position == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_files_that_are_not_text_of_the_source_are_rejected_with_their_reason(tmp_path: Path) -> None:
    _jsonl(tmp_path / "letters.jsonl", ["good"])
    for name in (
        ".ipynb_checkpoints/letters.jsonl",
        ".git/refs/HEAD.txt",
        ".git/b.txt",
        "__MACOSX/a.txt",
        "deep/.a.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text('{"text": "no"}')
    (tmp_path / "README.md").write_bytes(b"---\r\nlicense: mit\r\n---\r\n# Letters\n")
    (tmp_path / "~$notes.txt").write_text("lock file of an office program")
    (tmp_path / "deep" / "README.md").write_text("# How to read letters\n")
    assert [(document.source, document.content or document.error) for document in _read(tmp_path)] == [
        (".git", "a hidden folder"),
        (".ipynb_checkpoints", "a hidden folder"),
        ("README.md", "a dataset card"),
        ("__MACOSX", "a folder of another program"),
        ("deep/.a.txt", "a hidden file"),
        ("deep/README.md", "# How to read letters\n"),
        ("letters.jsonl", "good"),
        ("~$notes.txt", "a lock file"),
    ]


def test_a_hidden_file_or_a_card_that_is_named_is_read(tmp_path: Path) -> None:
    (tmp_path / ".notes").mkdir()
    (tmp_path / ".notes" / ".a.txt").write_text("good")
    (tmp_path / "README.md").write_text("---\na: b\n---\ngood\n")
    assert _contents(tmp_path / ".notes" / ".a.txt") == [("good", "")]
    assert _contents(tmp_path / "README.md") == [("---\na: b\n---\ngood\n", "")]
    (tmp_path / ".notes" / "b.txt").write_text("also")
    assert _contents(tmp_path / ".notes") == [("", "a hidden file"), ("also", "")]


def test_no_link_is_followed_out_of_a_folder_or_twice(tmp_path: Path) -> None:
    for name in ("src", "private", "src/inner"):
        (tmp_path / name).mkdir()
    (tmp_path / "private" / "key.txt").write_text("a secret")
    (tmp_path / "src" / "inner" / "b.txt").write_text("inside")
    for link, target in {
        "src/broken.jsonl": "nowhere.jsonl",
        "src/environment.txt": "/proc/self/environ",
        "src/file.txt": "inner/b.txt",
        "src/linked": "../private",
        "src/same": "inner",
        "src/stolen.txt": "../private/key.txt",
        "src/up": "..",
    }.items():
        (tmp_path / link).symlink_to(target)
    expected = [
        ("broken.jsonl", "a broken link"),
        ("environment.txt", "a link to a file outside of the source"),
        ("file.txt", "inside"),
        ("inner/b.txt", "inside"),
        ("linked", "a link to a folder outside of the source"),
        ("same", "a link to a folder that is read elsewhere"),
        ("stolen.txt", "a link to a file outside of the source"),
        ("up", "a link to a folder outside of the source"),
    ]
    assert [(document.source, document.content or document.error) for document in _read(tmp_path / "src")] == expected
    # A pattern can match what the user has not seen; a file that is named is read.
    outside = ("", "a link to a file outside of the source")
    assert _contents(tmp_path / "src" / "[e-s]*.txt") == [outside, ("inside", ""), outside]
    assert _contents(tmp_path / "src" / "*" / "*.txt")[1:] == [outside, ("inside", "")]
    assert _contents(tmp_path / "src" / "stolen.txt") == [("a secret", "")]
    with pytest.raises(ValueError, match=r"is a broken link; it points to nowhere\.jsonl"):
        _read(tmp_path / "src" / "broken.jsonl")
