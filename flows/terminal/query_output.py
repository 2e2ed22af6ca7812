"""Write a query result as a table on the terminal, or as CSV, JSON or Parquet.

DuckDB converts the values, in a projection on top of the result: Python has no exact counterpart of its intervals,
infinite dates, unions or integers of 128 bits, and a dict of a row has no place for two columns with one name.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pyarrow.parquet as pq
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.terminal.console import console, table
from flows.terminal.output_format import OutputFormat
from heirloom.errors import HeirloomError
from heirloom.escaping import visible, without_formula
from storage.files import atomic_file
from storage.query.catalog import sql_identifier

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation
    from duckdb.sqltypes import DuckDBPyType

_MAX_SHOWN_ROWS = 200
_MAX_COUNTED_ROWS = 1_000_000
_MAX_LINES = 6
"""Maximum number of lines of a value in a table."""
_MIN_TEXT_WIDTH = 12
"""Minimum width of a text column, in characters."""
_FLOATS = {"float", "double"}
_NUMBERS = {
    *(
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "hugeint",
        "utinyint",
        "usmallint",
        "uinteger",
        "ubigint",
        "uhugeint",
    ),
    *("bignum", "decimal", *_FLOATS),
}
_NESTED = {"struct", "list", "array", "map", "tuple"}
"""Types that a cell of a CSV file holds as JSON."""
_PARQUET_TYPES = {
    "hugeint": "DECIMAL(38, 0)",
    "uhugeint": "DECIMAL(38, 0)",
    "union": "JSON",
    "variant": "JSON",
    "tuple": "JSON",
    "bignum": "VARCHAR",
    "bit": "VARCHAR",
    "interval": "VARCHAR",
    "time with time zone": "VARCHAR",
}
"""Types that Parquet does not have, or has with less precision, and the lossless type that replaces them in a file."""
_INVALID_JSON = re.compile(r"NaN|Infinity|[:,\[]-?\.\d")
_JSON_STRING_OR_INVALID = re.compile(r'"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)|(?<=[:,\[])-?(?=\.\d)')
"""What DuckDB writes and JSON does not have: NaN, infinities, and decimals without a digit before the point."""
_QUOTED_IN_CSV = re.compile(r'[",\r\n]')


def result_writer(
    output_format: OutputFormat | None, out: Path | None, for_spreadsheet: bool = False
) -> Callable[["DuckDBPyRelation"], None]:
    """Return a function that writes a result.

    Args:
        output_format: the format; None takes it from the ending of `out`, or a table without `out`.
        out: file to write; None stands for standard output.
        for_spreadsheet: whether texts in CSV get an apostrophe in front that a spreadsheet would calculate.

    Raises:
        HeirloomError: format and file do not match, or the file exists.
    """
    if output_format is None:
        ending = out.suffix.removeprefix(".") if out else "table"
        if ending not in set(OutputFormat):
            raise HeirloomError(
                f"The ending of {out} is not a known format. Pass --format json, --format csv or --format parquet."
            )
        output_format = OutputFormat(ending)
    if out and output_format is OutputFormat.table:
        raise HeirloomError("A table can only be printed. For a file, pass --format json, csv or parquet.")
    if out and out.exists():
        raise HeirloomError(f"{out} exists. Choose another file for --out, or delete it.")
    if for_spreadsheet and output_format is not OutputFormat.csv:
        raise HeirloomError("--spreadsheet is for CSV. Pass --format csv too.")
    if output_format is OutputFormat.table:
        return print_result
    if output_format is OutputFormat.parquet and not out:
        raise HeirloomError("Parquet cannot be printed. Name a file with --out FILE.")
    return partial(_write_result, output_format=output_format, out=out, for_spreadsheet=for_spreadsheet)


def print_result(result: "DuckDBPyRelation") -> None:
    """Print a table, or one line per value if the terminal is too narrow for all columns; count what is left out."""
    if result.columns == ["explain_key", "explain_value"]:
        console.print("\n".join(text for _, text in result.fetchall()), markup=False, soft_wrap=True)
        return
    result = _with_unique_names(result)
    # A terminal shows a few digits of a float; all other values are shown as DuckDB prints them.
    texts = result.project(
        ", ".join(
            quoted if type_.id in _FLOATS else f"{quoted}::varchar as {quoted}"
            for quoted, type_ in zip(_quoted(result.columns), result.types, strict=True)
        )
    )
    is_number = [type_.id in _NUMBERS for type_ in result.types]
    rows: list[tuple[object, ...]] = []
    num_rows = 0
    for batch in texts.to_arrow_reader():
        num_rows += batch.num_rows
        shown = batch.slice(0, _MAX_SHOWN_ROWS - len(rows))
        rows += zip(*(column.to_pylist() for column in shown.columns), strict=True)
        if num_rows > _MAX_COUNTED_ROWS:
            break
    layout, is_truncated = _lay_out([escape(name) for name in result.columns], rows, is_number)
    console.print(layout)
    count = f"{num_rows:,}" if num_rows else "no"
    if num_rows > _MAX_COUNTED_ROWS:
        count = f"over {_MAX_COUNTED_ROWS:,}"
    plural = "row" if num_rows == 1 else "rows"
    left_out = f", {len(rows)} shown; --format csv prints all" if num_rows > len(rows) else ""
    truncated = "; values that end with … are cut, --format json prints them in full" if is_truncated else ""
    console.print(f"[dim]{count} {plural}{left_out}{truncated}[/]", soft_wrap=True)


def _lay_out(
    names: Sequence[str], rows: Sequence[Sequence[object]], is_number: Sequence[bool]
) -> tuple[Table | Group, bool]:
    """Return the rows as a table, or one line per value, and whether a value is cut."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    cells = [[_cell(value) for value in column] for column in columns]
    widths = [max(map(len, (name, *column))) for name, column in zip(names, cells, strict=True)]
    text_widths = [width for width, numeric in zip(widths, is_number, strict=True) if not numeric]
    number_width = sum(widths) - sum(text_widths)
    min_text_width = sum(min(width, _MIN_TEXT_WIDTH) for width in text_widths)
    for gap in (2, 1):
        text_room = console.width - number_width - gap * (len(names) - 1)
        if text_room >= min_text_width:
            break
    else:
        return Group(*(_value_lines(names, row) for row in zip(*cells, strict=True))), False
    max_length = _MAX_LINES * text_room // max(1, len(text_widths))
    numbers = {name for name, numeric in zip(names, is_number, strict=True) if numeric}
    layout = table(*names, numbers=numbers, gap=gap)
    for row in zip(*cells, strict=True):
        layout.add_row(*(Text(_truncate(cell, max_length)) for cell in row))
    return layout, any(width > max_length for width in text_widths)


def _truncate(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def _value_lines(names: Sequence[str], row: Sequence[str]) -> Table:
    """Return one row as a table of two columns, name and value."""
    lines = table("", "")
    lines.show_header = False
    for name, cell in zip(names, row, strict=True):
        lines.add_row(f"[dim]{name}[/]", Text(cell))
    lines.add_row("", "")
    return lines


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}" if not 1e6 <= abs(value) < 1e15 else f"{value:,.0f}"
    return visible(str(value), keep="")


def _write_result(
    result: "DuckDBPyRelation", output_format: OutputFormat, out: Path | None, for_spreadsheet: bool
) -> None:
    result = _with_unique_names(result)
    if output_format is OutputFormat.parquet and out:
        _write_parquet(result, out)
        return
    write = _write_json if output_format is OutputFormat.json else partial(_write_csv, for_spreadsheet=for_spreadsheet)
    with _open_output(out) as file:
        num_replaced = write(file, result)
    if num_replaced:
        values = "1 value is" if num_replaced == 1 else f"{num_replaced:,} values are"
        sys.stderr.write(
            f"{values} NaN or infinite, which JSON does not have: written as null. --out FILE.parquet keeps them.\n"
        )


@contextmanager
def _open_output(out: Path | None) -> Iterator[IO[str]]:
    """Open standard output, or a file that gets its name once it is complete."""
    if out is None:
        yield cast("IO[str]", _Visible()) if sys.stdout.isatty() else sys.stdout
        return
    with atomic_file(out) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        yield file


class _Visible:
    """Standard output that is a terminal, with control characters as escapes. A file or pipe gets the texts as is."""

    def write(self, text: str) -> None:
        """Write a text."""
        sys.stdout.write(visible(text))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        sys.stdout.writelines(map(visible, lines))


def _write_parquet(result: "DuckDBPyRelation", out: Path) -> None:
    import duckdb

    columns = ", ".join(
        quoted if (target := _parquet_type(type_)) == str(type_) else f"{quoted}::{target} as {quoted}"
        for quoted, type_ in zip(_quoted(result.columns), result.types, strict=True)
    )
    try:
        batches = result.project(columns).to_arrow_reader()
        with atomic_file(out) as draft, pq.ParquetWriter(draft, batches.schema, compression="zstd") as file:
            for batch in batches:
                file.write_batch(batch)
    except (duckdb.Error, OSError) as error:
        if "to DECIMAL(38,0)" not in str(error):
            raise
        raise HeirloomError(
            f"{str(error).partition(chr(10))[0]}. Integers in Parquet have at most 38 digits. "
            "Cast the column to text in the statement: column::varchar."
        ) from error


def _parquet_type(type_: "DuckDBPyType") -> str:
    """Return the SQL name of the type of a column in Parquet."""
    if type_.id in _PARQUET_TYPES:
        return _PARQUET_TYPES[type_.id]
    if type_.id not in _NESTED:
        return str(type_)
    # The size of an array stands among its children.
    children = {name: child for name, child in type_.children if not isinstance(child, int)}
    targets = {name: _parquet_type(child) for name, child in children.items()}
    if all(target == str(children[name]) for name, target in targets.items()):
        return str(type_)
    if type_.id == "struct":
        fields = zip(_quoted(list(targets)), targets.values(), strict=True)
        return f"STRUCT({', '.join(f'{quoted} {target}' for quoted, target in fields)})"
    if type_.id == "map":
        return f"MAP({targets['key']}, {targets['value']})"
    return f"{targets['child']}[]"


def _write_json(file: IO[str], result: "DuckDBPyRelation") -> int:
    """Write an array with one object per row; return the number of values that JSON does not have."""
    fields = ", ".join(f"{quoted} := {quoted}" for quoted in _quoted(result.columns))
    separator = "[\n"
    num_replaced = 0
    for batch in result.project(f"to_json(struct_pack({fields})) as row").to_arrow_reader():
        for row in batch.column(0).to_pylist():
            text, count = _repair_json(row)
            num_replaced += count
            file.write(separator + text)
            separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")
    return num_replaced


def _write_csv(file: IO[str], result: "DuckDBPyRelation", for_spreadsheet: bool) -> int:
    """Write CSV as DuckDB does: nothing for null, two quotes for empty text; lists, maps and structs are JSON.

    Returns:
        The number of values that JSON does not have.
    """
    is_nested = [type_.id in _NESTED for type_ in result.types]
    is_number = [type_.id in _NUMBERS for type_ in result.types]
    texts = ", ".join(
        f"to_json({quoted})::varchar as {quoted}" if nested else f"{quoted}::varchar as {quoted}"
        for quoted, nested in zip(_quoted(result.columns), is_nested, strict=True)
    )
    num_replaced = 0
    file.write(",".join(map(_csv_cell, result.columns)) + "\n")
    for batch in result.project(texts).to_arrow_reader():
        columns = []
        for column, nested, numeric in zip(batch.columns, is_nested, is_number, strict=True):
            values = column.to_pylist()
            if nested:
                replacements = [_repair_json(value) for value in values if value is not None]
                num_replaced += sum(count for _, count in replacements)
                texts_without_null = iter(replacements)
                values = [None if value is None else next(texts_without_null)[0] for value in values]
            if for_spreadsheet and not numeric:
                values = [None if value is None else without_formula(value) for value in values]
            columns.append(map(_csv_cell, values))
        file.writelines(",".join(row) + "\n" for row in zip(*columns, strict=True))
    return num_replaced


def _csv_cell(text: str | None) -> str:
    # Before version 3.12, Python's csv module writes null and empty text alike.
    if text is None:
        return ""
    if not text or _QUOTED_IN_CSV.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _repair_json(text: str) -> tuple[str, int]:
    """Return JSON of DuckDB as valid JSON, and the number of values that were NaN or infinite and are now null."""
    if not _INVALID_JSON.search(text):
        return text, 0
    num_replaced = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal num_replaced
        if match[0].startswith('"'):
            return match[0]
        if match[0] in ("", "-"):
            return f"{match[0]}0"
        num_replaced += 1
        return "null"

    return _JSON_STRING_OR_INVALID.sub(replace, text), num_replaced


def _with_unique_names(result: "DuckDBPyRelation") -> "DuckDBPyRelation":
    """Return the result with the names that DuckDB gives to columns of one name: `id`, `id_1`."""
    return result.project("*")


def _quoted(names: Sequence[str]) -> list[str]:
    return list(map(sql_identifier, names))
