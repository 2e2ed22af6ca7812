"""An answer, as a table for eyes or as CSV, JSON or Parquet for machines."""

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.terminal.console import console, table
from heirloom.errors import HeirloomError
from storage.files import atomic_file

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What a terminal would obey, or could not show."""
_MOST_ROWS = 200
_COUNTED = 1_000_000
_MOST_LINES = 6
"""Of a value in a table."""
_NARROWEST = 12
"""Characters that a column of words is not made narrower than."""


class OutputFormat(StrEnum):
    """How an answer is given."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


def result_writer(kind: OutputFormat | None, out: Path | None) -> Callable[["DuckDBPyRelation"], None]:
    """What takes an answer, in the format that is named, or that the name of the file says.

    Raises:
        HeirloomError: format and file do not go together, or the file is there already.
    """
    if kind is None:
        known = out.suffix.removeprefix(".") if out else "table"
        if known not in set(OutputFormat):
            raise HeirloomError(f"{out} says no format by its name; add --format json, csv or parquet")
        kind = OutputFormat(known)
    if out and kind is OutputFormat.table:
        raise HeirloomError("a table is for the screen; for a file, say --format json, csv or parquet")
    if out and out.exists():
        raise HeirloomError(f"{out} is there already; name another file, or remove it")
    if kind is OutputFormat.table:
        return print_result
    if kind is OutputFormat.parquet and not out:
        raise HeirloomError("Parquet goes to a file; name it with --out FILE")
    return lambda answer: _keep(answer, kind, out)


def print_result(answer: "DuckDBPyRelation") -> None:
    """Print a table, or where a screen has no room for all columns a line a value; what is left out is counted below."""
    if answer.columns == ["explain_key", "explain_value"]:
        console.print("\n".join(text for _, text in answer.fetchall()), markup=False, soft_wrap=True)
        return
    rows, total = list[tuple[object, ...]](), 0
    for batch in answer.to_arrow_reader():
        total += batch.num_rows
        some = batch.slice(0, _MOST_ROWS - len(rows))
        rows += zip(*(column.to_pylist() for column in some.columns), strict=True)
        if total > _COUNTED:
            break
    told, cut = _laid_out([escape(name) for name in answer.columns], rows)
    console.print(told)
    more = f", {len(rows)} shown: all with --format csv" if total > len(rows) else ""
    whole = "; what ends in … is whole with --format json" if cut else ""
    count = f"over {_COUNTED:,}" if total > _COUNTED else f"{total:,}" if total else "no"
    console.print(f"[dim]{count} row{'s'[: total != 1]}{more}{whole}[/]", soft_wrap=True)


def _laid_out(names: Sequence[str], rows: Sequence[Sequence[object]]) -> tuple[Table | Group, bool]:
    """Rows for a screen, and whether a value was cut."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    cells = [[_cell(value) for value in column] for column in columns]
    widths = [max(map(len, (name, *column))) for name, column in zip(names, cells, strict=True)]
    numeric = [_is_numeric(column) for column in columns]
    words = [width for width, number in zip(widths, numeric, strict=True) if not number]
    for gap in (2, 1):
        room = console.width - sum(widths) + sum(words) - gap * (len(names) - 1)
        if room >= sum(min(width, _NARROWEST) for width in words):
            break
    else:
        return Group(*(_line_a_value(names, row) for row in zip(*cells, strict=True))), False
    longest = _MOST_LINES * room // max(1, len(words))
    numbers = {name for name, number in zip(names, numeric, strict=True) if number}
    told = table(*names, numbers=numbers, gap=gap)
    for row in zip(*cells, strict=True):
        told.add_row(*(Text(cell if len(cell) <= longest else f"{cell[: longest - 1]}…") for cell in row))
    return told, any(width > longest for width in words)


def _line_a_value(names: Sequence[str], row: Sequence[str]) -> Table:
    told = table("", "")
    told.show_header = False
    for name, cell in zip(names, row, strict=True):
        told.add_row(f"[dim]{name}[/]", Text(cell))
    told.add_row("", "")
    return told


def _is_numeric(column: Sequence[object]) -> bool:
    there = [value for value in column if value is not None]
    return bool(there) and all(
        isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in there
    )


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 or not math.isfinite(value) else f"{value:,.0f}"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(value))


def _keep(answer: "DuckDBPyRelation", kind: OutputFormat, out: Path | None) -> None:
    batches = answer.to_arrow_reader()
    if kind is OutputFormat.parquet and out:
        with atomic_file(out) as hidden, pq.ParquetWriter(hidden, batches.schema, compression="zstd") as file:
            for batch in batches:
                file.write_batch(batch)
        return
    write = _json if kind is OutputFormat.json else _csv
    with _open(out) as file:
        write(file, batches)


@contextmanager
def _open(out: Path | None) -> Iterator[IO[str]]:
    """The file, which appears when it is whole, or else the screen."""
    if out is None:
        yield sys.stdout
        return
    with atomic_file(out) as hidden, hidden.open("w", newline="", encoding="utf-8") as file:
        yield file


def _json(file: IO[str], batches: pa.RecordBatchReader) -> None:
    between = "[\n"
    for batch in batches:
        for row in batch.to_pylist():
            file.write(between + json.dumps(_plain(row), ensure_ascii=False, default=_worded))
            between = ",\n"
    file.write("[]\n" if between == "[\n" else "\n]\n")


def _csv(file: IO[str], batches: pa.RecordBatchReader) -> None:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(batches.schema.names)
    for batch in batches:
        for row in batch.to_pylist():
            rows.writerow(
                json.dumps(_plain(value), ensure_ascii=False, default=_worded)
                if isinstance(value, dict | list)
                else value
                for value in row.values()
            )


def _worded(value: object) -> float | str:
    return float(value) if isinstance(value, Decimal) else str(value)


def _plain(value: Any) -> Any:  # noqa: ANN401  (whatever a column holds)
    """The value with null for what JSON has no word for: not a number, and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
