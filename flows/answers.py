"""An answer, as a table for eyes or as CSV, JSON or Parquet for machines."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.options import console

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

_NARROWEST = 80
_SHORTEST = 14
_MOST_ROWS = 200


class Format(StrEnum):
    """How an answer is given."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


def writer(kind: Format | None, out: Path | None) -> Callable[["DuckDBPyRelation"], None]:
    """What takes an answer, in the format that is named, or that the name of the file says.

    Raises:
        ValueError: format and file do not go together, or the file is there already.
    """
    if kind is None:
        known = out.suffix.removeprefix(".") if out else "table"
        if known not in set(Format):
            raise ValueError(f"{out} says no format by its name; add --format json, csv or parquet")
        kind = Format(known)
    if out and kind is Format.table:
        raise ValueError("a table is for the screen; for a file, say --format json, csv or parquet")
    if out and out.exists():
        raise ValueError(f"{out} is there already; name another file, or remove it")
    if kind is Format.table:
        return show
    if kind is Format.parquet and not out:
        raise ValueError("Parquet goes to a file; name it with --out FILE")
    return lambda answer: _keep(answer, kind, out)


def show(answer: "DuckDBPyRelation") -> None:
    """Print a table as wide as the screen; what is left out is counted below it."""
    if answer.columns == ["explain_key", "explain_value"]:
        console.print("\n".join(text for _, text in answer.fetchall()), markup=False, soft_wrap=True)
        return
    width = max(_NARROWEST, console.width)
    # Long cells are cut before whole columns are left out.
    cell = width if len(answer.columns) < 3 else max(_SHORTEST, width // len(answer.columns))
    answer.show(max_rows=_MOST_ROWS, max_width=width, max_col_width=cell)


def _keep(answer: "DuckDBPyRelation", kind: Format, out: Path | None) -> None:
    batches = answer.to_arrow_reader()
    if kind is Format.parquet and out:
        hidden = out.with_name(f".{out.name}.draft")
        with pq.ParquetWriter(hidden, batches.schema, compression="zstd") as file:
            for batch in batches:
                file.write_batch(batch)
        hidden.rename(out)
        return
    write = _json if kind is Format.json else _csv
    with _open(out) as file:
        write(file, batches)


@contextmanager
def _open(out: Path | None) -> Iterator[IO[str]]:
    """The file, which appears when it is whole, or else the screen."""
    if out is None:
        yield sys.stdout
        return
    hidden = out.with_name(f".{out.name}.draft")
    with hidden.open("w", newline="", encoding="utf-8") as file:
        yield file
    hidden.rename(out)


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
