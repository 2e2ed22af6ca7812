"""Every reader of files beside other implementations, on files that are generated from a seed.

CSV, TSV, JSON lines and Parquet files are written in the dialects, types and codecs of many programs; one in four is
damaged in some rows. Each is read by `storage.readers`, by Python's `csv` or `json` or by pyarrow, and by DuckDB. Rows
are compared by the values of all columns that are read, with each other and with what the generator wrote. A row that
differs is either of a class in `REASONS`, or it is a fault.
"""

import csv
import gzip
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure
from storage.readers.base import NOT_UTF8, Columns
from storage.readers.discovery import find_files, read_sources
from storage.readers.documents import documents

NUM_FILES = 10_000
KINDS = ("csv", "tsv", "jsonl", "parquet")

REASONS = {
    "not what was written": "the other implementation refuses or changes a file without damage; here every row is what "
    "the generator wrote",
    "damaged row": "the row is rejected with its reason, and the rows around it are read; the other implementation "
    "refuses the file, skips the row without a count, or makes several rows one",
    "empty line": "an empty line of a file with one column is no row here and in Python's csv; DuckDB reads a NULL",
    "escape": "DuckDB keeps an escape character before a character that needs none",
    "quoted TSV": "quotes of a .tsv file are read as a writer of CSV means them where the whole record is quoted so, "
    "and are text where each line is a row of its own: without a setting, files with and without quoting look alike",
    "repeated key": "the last one of several equal keys of a JSON object counts, as in Python's json; DuckDB refuses "
    "the file",
    "byte order mark": "a byte order mark before the first object is skipped; DuckDB refuses the file",
    "number beyond the range": "NaN, infinities and numbers that no float holds are accepted as in Python's json",
    "lone surrogate": "a lone surrogate of JSON is accepted as in Python's json; DuckDB refuses the file",
    "invalid UTF-8": "a row whose text is not UTF-8 is rejected alone; the other implementation refuses the file",
}
"""Classes of differences, each with the reason why the readers differ."""

Cells: TypeAlias = Mapping[str, Any]
Row: TypeAlias = tuple[Any, ...] | str | None
"""Text, response, document id, license and source of a row; the reason why it cannot be read; or None without text."""


@dataclass(frozen=True, kw_only=True)
class GeneratedFile:
    """A file, the settings that read it, and what its generator did."""

    path: Path
    kind: str
    columns: Columns
    header: Sequence[str]
    quote: str = '"'
    escape: str | None = None
    delimiter: str = ","
    marks: frozenset[str] = frozenset()
    """Classes of `REASONS` that the file has."""
    written: Sequence[Cells] = ()
    """Rows that were written, without the damaged ones."""

    @property
    def is_damaged(self) -> bool:
        """Whether there are rows besides `written`."""
        return bool(self.marks - {"empty line", "quoted TSV", "byte order mark"})


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows of one file: how many are equal, how many differ by class, and the faults."""

    num_rows: int
    num_equal: int
    classes: Counter[str] = field(default_factory=Counter)
    faults: Sequence[str] = ()
    num_intact: int = 0
    """Rows with a text that were written without damage into a damaged file."""
    num_intact_here: int = 0
    """Those of them that are read here."""
    num_intact_there: int = 0
    """Those of them that the other implementation reads."""


def measure() -> list[Figure]:
    """Compare the readers on `NUM_FILES` files."""
    totals: Counter[tuple[str, str, str]] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(NUM_FILES):
            file = write_file(Path(folder), number)
            for name, comparison in compare(file).items():
                totals[file.kind, name, "files"] += 1
                totals[file.kind, name, "rows"] += comparison.num_rows
                totals[file.kind, name, "equal"] += comparison.num_equal
                totals[file.kind, name, "rows beside damaged ones"] += comparison.num_intact
                totals[file.kind, name, "rows beside damaged ones, read here"] += comparison.num_intact_here
                totals[file.kind, name, "rows beside damaged ones, read there"] += comparison.num_intact_there
                for difference, count in comparison.classes.items():
                    totals[file.kind, name, difference] += count
                faults += [f"{file.path.name}, {name}: {fault}" for fault in comparison.faults]
            file.path.unlink()
    figures = [
        Figure("generated files", NUM_FILES, "files", ">= 10,000", NUM_FILES >= 10_000),
        Figure("rows that differ without a stated reason", len(faults), "rows", "0", not faults),
        *(Figure(f"fault: {fault}", None, "") for fault in faults[:20]),
    ]
    for (kind, name, subject), count in sorted((+totals).items()):
        reason = REASONS.get(subject, "")
        figures.append(
            Figure(f"{kind} beside {name}: {subject}", count, "files" if subject == "files" else "rows", reason)
        )
    return figures


def compare(file: GeneratedFile) -> dict[str, Comparison]:
    """Compare the rows of a file with those of each other implementation, by its name."""
    here = list(_read_here(file))
    written = [_row(cells, file.columns) for cells in file.written]
    comparisons = {} if file.is_damaged else {"the generator": _compare_rows(file, here, written)}
    for name, read in _OTHERS[file.kind].items():
        there: list[Row] = []
        try:
            there = read(file)
            comparison = _compare_rows(file, here, there)
        except (ValueError, OSError, csv.Error, RecursionError, duckdb.Error, pa.ArrowException) as error:
            reason = _reason_to_refuse(file, here)
            faults = [] if reason else [f"only the other refuses the file: {str(error)[:200]!r}"]
            classes = Counter({reason: len(here)} if reason else {})
            comparison = Comparison(num_rows=len(here), num_equal=0, classes=classes, faults=faults)
        if file.is_damaged:
            num_here, num_there = (_num_common(rows, written) for rows in (here, there))
            comparison = replace(
                comparison,
                num_intact=sum(isinstance(row, tuple) for row in written),
                num_intact_here=num_here,
                num_intact_there=num_there,
            )
        comparisons[name] = comparison
    return comparisons


def _num_common(rows: Sequence[Row], others: Sequence[Row]) -> int:
    texts, other_texts = (Counter(row for row in each if isinstance(row, tuple)) for each in (rows, others))
    return (texts & other_texts).total()


def _compare_rows(file: GeneratedFile, here: Sequence[Row], there: Sequence[Row]) -> Comparison:
    num_rows = len(here)
    classes: Counter[str] = Counter()
    if "empty line" in file.marks and len(there) > len(here):
        with_text, other_with_text = ([row for row in rows if row is not None] for rows in (here, there))
        if len(with_text) == len(other_with_text):
            classes["empty line"] = len(there) - len(here)
            here, there = with_text, other_with_text
    if len(here) != len(there):
        # One of them joined or dropped rows, so that they cannot be paired by their number.
        num_common = _num_common(here, there)
        reason = _reason_to_differ(file, here)
        if not reason:
            fault = f"{len(here)} rows here, {len(there)} there"
            return Comparison(num_rows=num_rows, num_equal=num_common, faults=[fault])
        classes[reason] += len(here) - num_common
        return Comparison(num_rows=num_rows, num_equal=num_common, classes=classes)
    num_equal = 0
    faults: list[str] = []
    for number, (row, other) in enumerate(zip(here, there, strict=True)):
        if row == other or (isinstance(row, str) and isinstance(other, str)):
            num_equal += 1
        elif reason := _reason_to_differ(file, here):
            classes[reason] += 1
        else:
            faults.append(f"row {number}: {row!r}, the other reads {other!r}"[:400])
    return Comparison(num_rows=num_rows, num_equal=num_equal, classes=classes, faults=faults)


def _reason_to_differ(file: GeneratedFile, here: Sequence[Row]) -> str:
    """Return the class of a row that differs, or an empty string if it has none."""
    if _is_as_written(file, here):
        return "not what was written"
    if "damaged row" in file.marks and any(isinstance(each, str) for each in here):
        return "damaged row"
    if file.escape:
        return "escape"
    return "quoted TSV" if "quoted TSV" in file.marks else ""


def _reason_to_refuse(file: GeneratedFile, here: Sequence[Row]) -> str:
    """Return why another implementation may refuse a file, or an empty string."""
    if _is_as_written(file, here) and "byte order mark" not in file.marks:
        return "not what was written"
    for name in ("invalid UTF-8", "damaged row", "repeated key", "lone surrogate", "number beyond the range"):
        if name in file.marks:
            return name
    return "byte order mark" if "byte order mark" in file.marks else ""


def _is_as_written(file: GeneratedFile, here: Sequence[Row]) -> bool:
    """Return whether rows are equal to those that the generator wrote."""
    return not file.is_damaged and list(here) == [_row(cells, file.columns) for cells in file.written]


# Reading.


def _read_here(file: GeneratedFile) -> Iterator[Row]:
    columns = file.columns
    for blocks in read_sources([(str(file.path), find_files(str(file.path)))], columns):
        for block in blocks:
            for document in documents(block, columns):
                source = document.source if document.source != file.path.name else None
                values = (document.content, document.response, document.document_id, document.license, source)
                yield (
                    (None if document.error.startswith("no text in") else document.error) if document.error else values
                )


def _row(cells: Cells, columns: Columns) -> Row:
    """Return the values that a row of another implementation should yield."""
    text = cells.get(columns.text)
    response = cells.get(columns.response) if columns.response else None
    if not isinstance(text, str):
        return None
    if columns.response and not (text.strip() and isinstance(response, str) and response.strip()):
        return None
    return (
        text,
        response,
        _as_text(cells.get(columns.document_id)) if columns.document_id else None,
        (_as_text(cells.get(columns.license)) or "") if columns.license else "",
        (_as_text(cells.get(columns.source)) or None) if columns.source else None,
    )


def _as_text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value).encode("utf-8", "replace").decode()


def _content(file: GeneratedFile) -> bytes:
    packed = file.path.read_bytes()
    if file.path.suffix == ".gz":
        return gzip.decompress(packed)
    return pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read() if file.path.suffix == ".zst" else packed


def _read_by_csv(file: GeneratedFile) -> list[Row]:
    lines = io.StringIO(_content(file).decode("utf-8-sig", "surrogateescape"), newline="")
    options: dict[str, Any] = {"quotechar": file.quote} if file.quote else {"quoting": csv.QUOTE_NONE}
    csv.field_size_limit(file.columns.max_length)
    cells = csv.DictReader(lines, delimiter=file.delimiter, escapechar=file.escape, **options)
    rows = [_row({name: cell or None for name, cell in row.items()}, file.columns) for row in cells]
    return [NOT_UTF8 if row and "\udce9" in row[0] else row for row in rows]


def _read_by_duckdb(file: GeneratedFile) -> list[Row]:
    if file.kind == "parquet":
        query, parameters = "select * from read_parquet($path)", {"path": str(file.path)}
    elif file.kind == "jsonl":
        names = ", ".join(f"{_sql(name)}: 'JSON'" for name in file.header)
        query = f"select * from read_json($path, format='newline_delimited', columns={{{names}}})"
        parameters = {"path": str(file.path)}
    else:
        names = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(file.header)))
        query = f"""select * from read_csv($path, auto_detect=false, header=true, delim={_sql(file.delimiter)},
            quote={_sql(file.quote)}, escape={_sql(file.escape or file.quote)}, columns={{{names}}})"""
        parameters = {"path": str(file.path)}
    rows = _connection().execute(query, parameters).fetchall()
    decode: Callable[[Any], Any] = json.loads if file.kind == "jsonl" else lambda value: value
    cells = [
        {name: None if value is None else decode(value) for name, value in zip(file.header, row, strict=True)}
        for row in rows
    ]
    if file.kind in ("csv", "tsv"):
        cells = [{name: value or None for name, value in row.items()} for row in cells]
    return [_row(row, file.columns) for row in cells]


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def _sql(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _read_by_json(file: GeneratedFile) -> list[Row]:
    lines = _content(file).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [_row_of_line(line, file.columns) for line in lines if line.strip()]


def _row_of_line(line: bytes, columns: Columns) -> Row:
    try:
        value = json.loads(line.decode())
    except ValueError as error:
        return str(error)
    return _row(value, columns) if isinstance(value, dict) else "not an object"


def _read_by_pyarrow(file: GeneratedFile) -> list[Row]:
    return [_row(row, file.columns) for row in pq.read_table(file.path).to_pylist()]


_OTHERS: dict[str, dict[str, Callable[[GeneratedFile], list[Row]]]] = {
    "csv": {"Python's csv": _read_by_csv, "DuckDB": _read_by_duckdb},
    "tsv": {"Python's csv": _read_by_csv, "DuckDB": _read_by_duckdb},
    "jsonl": {"Python's json": _read_by_json, "DuckDB": _read_by_duckdb},
    "parquet": {"pyarrow": _read_by_pyarrow, "DuckDB": _read_by_duckdb},
}


# Generating.

_WORDS = (
    "rain", "old", "river", "Grüße", "日本語", "naïve", "ខ្មែរ", "letter", "the", "winter", "cried", "👋🏽", "e\u0301",
    "007", "1e5", "12.50", "NULL", "NaN", "null", "true", "2026-01-02", "-", "=1+1", "#", "//", "{", "[1]", "N/A",
    "C:\\new",
)  # fmt: skip
_SIGNS = (
    '"', '""', "'", ",", ";", "|", "\\", "\\n", '\\"', " ", "  ", "\u00a0", "\u2028", "\u2029", "\x85", "\x0b", "\x0c",
    "\x1c",
    "\ufeff", "\x00", "\x1a", "\x7f", "\u200b",
)  # fmt: skip
_BREAKS = ("\n", "\r\n", "\r", "\t", "\n\n")


def write_file(folder: Path, number: int) -> GeneratedFile:
    """Write the file with this number, and return it with the settings that read it."""
    rng = random.Random(number)  # noqa: S311  (not a secret)
    kind = KINDS[number % len(KINDS)]
    return _WRITERS[kind](folder / f"{number}.{kind}", rng)


def _text(rng: random.Random) -> str:
    pieces = rng.choices(_WORDS, k=rng.randint(1, 8))
    pieces += rng.choices(_SIGNS, k=rng.choice([0, 0, 1, 3]))
    pieces += rng.choices(_BREAKS, k=rng.choice([0, 0, 1, 2]))
    rng.shuffle(pieces)
    text = rng.choice([" ", " ", ""]).join(pieces)
    return text * rng.choice([1, 1, 1, 1, 1, 400]) if rng.random() < 0.05 else text


def _columns(rng: random.Random, **given: Any) -> tuple[Columns, list[str]]:  # noqa: ANN401
    """Return names of columns to read, and the header of a file that has them and others in any order."""
    text = rng.choice(["text", "body", "Text", "the text", "テキスト", 'te"xt'])
    optional: dict[str, Any] = {
        "response": rng.choice([None, None, "answer"]),
        "document_id": rng.choice([None, "id"]),
        "license": rng.choice([None, "license"]),
        "source": rng.choice([None, None, "author"]),
    }
    columns = Columns(text=text, **optional, **given)
    header = [*columns.names, *rng.sample(["other", "n", "when", ""], rng.choice([0, 0, 1, 3]))]
    rng.shuffle(header)
    return columns, header


def _packed(path: Path, content: bytes, rng: random.Random) -> Path:
    packing = rng.choice(["", "", "", ".gz", ".zst"])
    if packing == ".gz":
        content = gzip.compress(content, 1)
    elif packing:
        content = pa.compress(content, "zstd", asbytes=True)
    target = path.with_name(path.name + packing)
    target.write_bytes(content)
    return target


def _write_delimited(path: Path, rng: random.Random) -> GeneratedFile:
    is_tsv = path.suffix == ".tsv"
    dialect = _Dialect.drawn(rng, is_tsv=is_tsv)
    given: dict[str, Any] = {"delimiter": None if dialect.delimiter in (",", "\t") else dialect.delimiter}
    if dialect.quote == "'" or dialect.escape:
        given |= {"quote": dialect.quote, "escape": dialect.escape}
    columns, header = _columns(rng, **given)
    rows = [[_text(rng) if rng.random() < 0.95 else "" for _ in header] for _ in range(rng.randint(0, 30))]
    if not dialect.quote:
        header = [dialect.without_signs(name) for name in header]
        columns = replace(columns, text=dialect.without_signs(columns.text))
        rows = [[dialect.without_signs(cell) for cell in row] for row in rows]
    end = rng.choice(["\n", "\n", "\r\n"])
    lines = [dialect.line(row) + end for row in [header, *rows]]
    marks = {"empty line"} if len(header) == 1 else set()
    # Such a file may have been quoted, or not.
    marks |= {"quoted TSV"} if is_tsv and columns.quote is None else set()
    damaged: set[int] = set()
    if rng.random() < 0.25 and rows:
        marks.add("damaged row")
        for at in rng.sample(range(1, len(rows) + 1), min(len(rows), rng.randint(1, 3))):
            damaged.add(at - 1)
            lines[at] = _damaged_line(lines[at], dialect.delimiter, dialect.quote or '"', rng)
    if rng.random() < 0.2:
        lines.insert(rng.randint(1, len(lines)), end)
    content = "".join(lines).encode()
    if rng.random() < 0.05 and rows:
        marks |= {"invalid UTF-8", "damaged row"}
        content += b"caf\xe9" + (dialect.delimiter * (len(header) - 1)).encode() + end.encode()
    if rng.random() < 0.3:
        content = content.removesuffix(end.encode())
    return GeneratedFile(
        path=_packed(path, rng.choice([b"", b"", b"", b"", b"\xef\xbb\xbf"]) + content, rng),
        kind=path.suffix[1:],
        columns=columns,
        header=header,
        quote=dialect.quote,
        escape=dialect.escape,
        delimiter=dialect.delimiter,
        marks=frozenset(marks),
        written=[
            dict(zip(header, (cell or None for cell in row), strict=True))
            for number, row in enumerate(rows)
            if number not in damaged
        ],
    )


@dataclass(frozen=True, kw_only=True)
class _Dialect:
    delimiter: str
    quote: str
    """Empty: no quoting, as most writers of TSV do."""
    escape: str | None
    quoting: Literal[0, 1]

    @classmethod
    def drawn(cls, rng: random.Random, *, is_tsv: bool) -> "_Dialect":
        quote = "" if is_tsv and rng.random() < 0.6 else rng.choice(['"', '"', '"', "'"])
        return cls(
            delimiter="\t" if is_tsv else rng.choice([",", ",", ",", ";", "|"]),
            quote=quote,
            escape="\\" if quote and rng.random() < 0.15 else None,
            quoting=rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL]),
        )

    def line(self, row: Sequence[str]) -> str:
        """Return a row without its line end."""
        if not self.quote:
            return self.delimiter.join(row)
        record = io.StringIO()
        # With another line end, the writer would leave a lone carriage return without quotes.
        csv.writer(
            record,
            delimiter=self.delimiter,
            lineterminator="\r\n",
            quoting=self.quoting,
            quotechar=self.quote,
            doublequote=self.escape is None,
            escapechar=self.escape,
        ).writerow(row)
        return record.getvalue().removesuffix("\r\n")

    def without_signs(self, cell: str) -> str:
        """Return a cell without what cannot be written without quoting."""
        return "".join(sign for sign in cell if sign not in "\t\r\n")


def _damaged_line(line: str, delimiter: str, quote: str, rng: random.Random) -> str:
    body = line.rstrip("\r\n")
    end = line[len(body) :]
    at = rng.randint(0, len(body))
    return rng.choice(
        [
            body + delimiter + "more" + end,
            body.rpartition(delimiter)[0] + end,
            quote + line,
            body[:at] + quote + body[at:] + end,
            body[:at] + "\r" + body[at:] + end,
            body[:at] + "\n" + body[at:] + end,
            "a " + quote + "word" + quote + " " + line,
        ]
    )


def _write_jsonl(path: Path, rng: random.Random) -> GeneratedFile:
    columns, header = _columns(rng)
    header = [name for name in header if name]
    marks: set[str] = set()
    lines: list[bytes] = []
    written: list[Cells] = []
    trouble = rng.choice([*_DAMAGED_OBJECTS, *["none"] * 15])
    for _ in range(rng.randint(1, 30)):
        row = {name: _json_value(rng, is_text=name in (columns.text, columns.response)) for name in header}
        if rng.random() < 0.1:
            row.pop(rng.choice(header))
        line = json.dumps(row, ensure_ascii=rng.random() < 0.5, separators=rng.choice([(",", ":"), (", ", ": ")]))
        encoded = line.encode()
        if trouble != "none" and rng.random() < 0.1:
            marks.add(trouble)
            encoded = _DAMAGED_OBJECTS[trouble](line, json.dumps(columns.text), rng)
        else:
            written.append(row)
        lines.append(rng.choice([b"", b"", b" "]) + encoded)
        if rng.random() < 0.03:
            lines.append(rng.choice([b"", b"  "]))
    end = rng.choice([b"\n", b"\n", b"\r\n"])
    bom = rng.choice([b"", b"", b"", b"\xef\xbb\xbf"])
    marks |= {"byte order mark"} if bom else set()
    content = bom + end.join(lines) + rng.choice([b"", end])
    return GeneratedFile(
        path=_packed(path.with_suffix(rng.choice([".jsonl", ".ndjson"])), content, rng),
        kind="jsonl",
        columns=columns,
        header=header,
        marks=frozenset(marks),
        written=written,
    )


_DAMAGED_OBJECTS: dict[str, Callable[[str, str, random.Random], bytes]] = {
    "repeated key": lambda line, name, _: f'{line[:-1].rstrip()}{", " * (line != "{}")}{name}: "twice"}}'.encode(),
    "lone surrogate": lambda _, name, __: f'{{{name}: "half \\ud83d of it", "answer": "x"}}'.encode(),
    "number beyond the range": lambda _, name, rng: (
        f'{{"n": {rng.choice(["NaN", "-Infinity", "1e999"])}, {name}: "x", "answer": "y"}}'.encode()
    ),
    "damaged row": lambda line, _, rng: rng.choice(
        [line[:-1], '"a string"', "[1]", "{'text': 'x'}", "null", "text", line + line]
    ).encode(),
    "invalid UTF-8": lambda line, _, __: line[:-1].encode() + b', "other": "caf\xe9"}',
}
"""How one object is damaged, by class: from its line, the text column as JSON, and random choices."""


def _json_value(rng: random.Random, *, is_text: bool) -> object:
    if is_text and rng.random() < 0.93:
        return _text(rng)
    plain = [_text(rng), "", None, 7, -3, 2**53 + 1, 2**64 + 5, 1.5, 0.1, 1e300, True]
    # A list as text is a conversation.
    return rng.choice(plain if is_text else [*plain, [], [1, "a"], {"deep": [1, {"er": "x"}]}])


def _write_parquet(path: Path, rng: random.Random) -> GeneratedFile:
    columns, header = _columns(rng)
    num_rows = rng.randint(0, 60)
    arrays: dict[str, pa.Array] = {}
    for name in header:
        if name in (columns.text, columns.response):
            texts = [None if rng.random() < 0.05 else _text(rng) for _ in range(num_rows)]
            arrays[name] = _text_array(texts, rng)
        else:
            arrays[name] = _other_array(num_rows, rng)
    table = pa.table(arrays)
    # DuckDB renames a column without a name.
    by_duckdb = rng.random() < 0.2 and "" not in header
    if by_duckdb:
        codec = rng.choice(["snappy", "zstd", "gzip", "uncompressed"])
        with _connection().cursor() as connection:
            connection.register("rows", table)
            connection.execute(
                f"copy rows to {_sql(str(path))} (format parquet, compression {codec}, row_group_size 2048)"
            )
    else:
        pq.write_table(
            table,
            path,
            compression=rng.choice(["snappy", "zstd", "gzip", "brotli", "lz4", "none"]),
            use_dictionary=rng.random() < 0.5,
            row_group_size=rng.choice([7, 1 << 20]),
            data_page_size=rng.choice([64, 1 << 20]),
            data_page_version=rng.choice(["1.0", "2.0"]),
            version=rng.choice(["1.0", "2.4", "2.6"]),
            store_schema=rng.random() < 0.7,
        )
    return GeneratedFile(path=path, kind="parquet", columns=columns, header=header, written=table.to_pylist())


def _text_array(texts: Sequence[str | None], rng: random.Random) -> pa.Array:
    plain = pa.array(texts, pa.string())
    return rng.choice(
        [
            plain,
            plain.cast(pa.large_string()),
            plain.cast(pa.string_view()),
            plain.dictionary_encode(),
            plain.cast(pa.large_string()).dictionary_encode(),
        ]
    )


def _other_array(num_rows: int, rng: random.Random) -> pa.Array:
    kind = rng.choice(["int", "string", "float", "bool", "date", "decimal", "list", "struct"])
    value: dict[str, Callable[[], object]] = {
        "int": lambda: rng.randint(-(2**62), 2**62),
        "string": lambda: _text(rng),
        "float": lambda: rng.choice([0.5, 1e300, -2.25, 3.0]),
        "bool": lambda: rng.random() < 0.5,
        "date": lambda: date(2026, rng.randint(1, 12), 3),
        "decimal": lambda: Decimal(rng.randint(-9999, 9999)).scaleb(-2),
        "list": lambda: [_text(rng)],
        "struct": lambda: {"a": 1, "b": _text(rng)},
    }
    types = {"decimal": pa.decimal128(12, 2), "list": pa.list_(pa.string()), "int": pa.int64(), "string": pa.string()}
    values = [None if rng.random() < 0.1 else value[kind]() for _ in range(num_rows)]
    fallback = {"float": pa.float64(), "bool": pa.bool_(), "date": pa.date32()}
    schema = {**types, **fallback, "struct": pa.struct([("a", pa.int64()), ("b", pa.string())])}
    return pa.array(values, schema[kind])


_WRITERS: dict[str, Callable[[Path, random.Random], GeneratedFile]] = {
    "csv": _write_delimited,
    "tsv": _write_delimited,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
