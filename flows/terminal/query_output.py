"""Write a query result as a table on the terminal, or as CSV, JSON or Parquet."""

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.terminal.console import console, table
from flows.terminal.output_format import OutputFormat
from heirloom.errors import HeirloomError
from storage.files import atomic_file

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, which a terminal would obey, and surrogates, which it cannot show."""
_MAX_SHOWN_ROWS = 200
_MAX_COUNTED_ROWS = 1_000_000
_MAX_LINES = 6
"""Maximum number of lines of a value in a table."""
_MIN_TEXT_WIDTH = 12
"""Minimum width of a text column, in characters."""


def result_writer(output_format: OutputFormat | None, out: Path | None) -> Callable[["DuckDBPyRelation"], None]:
    """Return a function that writes a result.

    Args:
        output_format: the format; None takes it from the ending of `out`, or a table without `out`.
        out: file to write; None stands for standard output.

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
    if output_format is OutputFormat.table:
        return print_result
    if output_format is OutputFormat.parquet and not out:
        raise HeirloomError("Parquet cannot be printed. Name a file with --out FILE.")
    return partial(_write_result, output_format=output_format, out=out)


def print_result(result: "DuckDBPyRelation") -> None:
    """Print a table, or one line per value if the terminal is too narrow for all columns; count what is left out."""
    if result.columns == ["explain_key", "explain_value"]:
        console.print("\n".join(text for _, text in result.fetchall()), markup=False, soft_wrap=True)
        return
    rows: list[tuple[object, ...]] = []
    num_rows = 0
    for batch in result.to_arrow_reader():
        num_rows += batch.num_rows
        shown = batch.slice(0, _MAX_SHOWN_ROWS - len(rows))
        rows += zip(*(column.to_pylist() for column in shown.columns), strict=True)
        if num_rows > _MAX_COUNTED_ROWS:
            break
    layout, is_truncated = _lay_out([escape(name) for name in result.columns], rows)
    console.print(layout)
    count = f"{num_rows:,}" if num_rows else "no"
    if num_rows > _MAX_COUNTED_ROWS:
        count = f"over {_MAX_COUNTED_ROWS:,}"
    plural = "row" if num_rows == 1 else "rows"
    left_out = f", {len(rows)} shown; --format csv prints all" if num_rows > len(rows) else ""
    truncated = "; values that end with … are cut, --format json prints them in full" if is_truncated else ""
    console.print(f"[dim]{count} {plural}{left_out}{truncated}[/]", soft_wrap=True)


def _lay_out(names: Sequence[str], rows: Sequence[Sequence[object]]) -> tuple[Table | Group, bool]:
    """Return the rows as a table, or one line per value, and whether a value is cut."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    cells = [[_cell(value) for value in column] for column in columns]
    widths = [max(map(len, (name, *column))) for name, column in zip(names, cells, strict=True)]
    is_number = [_is_numeric(column) for column in columns]
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


def _is_numeric(column: Sequence[object]) -> bool:
    values = [value for value in column if value is not None]
    return bool(values) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in values
    )


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 or not math.isfinite(value) else f"{value:,.0f}"
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), str(value))


def _write_result(result: "DuckDBPyRelation", output_format: OutputFormat, out: Path | None) -> None:
    batches = result.to_arrow_reader()
    if output_format is OutputFormat.parquet and out:
        with atomic_file(out) as draft, pq.ParquetWriter(draft, batches.schema, compression="zstd") as file:
            for batch in batches:
                file.write_batch(batch)
        return
    write = _write_json if output_format is OutputFormat.json else _write_csv
    with _open_output(out) as file:
        write(file, batches)


@contextmanager
def _open_output(out: Path | None) -> Iterator[IO[str]]:
    """Open standard output, or a file that gets its name once it is complete."""
    if out is None:
        yield sys.stdout
        return
    with atomic_file(out) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        yield file


def _write_json(file: IO[str], batches: pa.RecordBatchReader) -> None:
    separator = "[\n"
    for batch in batches:
        for row in batch.to_pylist():
            file.write(separator + _to_json(row))
            separator = ",\n"
    file.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_csv(file: IO[str], batches: pa.RecordBatchReader) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(batches.schema.names)
    for batch in batches:
        for row in batch.to_pylist():
            writer.writerow(_to_json(value) if isinstance(value, dict | list) else value for value in row.values())


def _to_json(value: object) -> str:
    return json.dumps(_replace_non_finite(value), ensure_ascii=False, default=_json_default)


def _json_default(value: object) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)


def _replace_non_finite(value: Any) -> Any:  # noqa: ANN401  (any value of a column)
    """Return the value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _replace_non_finite(inner) for key, inner in value.items()}
    return [_replace_non_finite(inner) for inner in value] if isinstance(value, list) else value
