"""Read the columns of a source that are not its text, for rows by number, as Arrow tables.

Columns of Parquet keep their types, cells of CSV are strings. Values of JSON have the type that Arrow infers; a column
whose values have several types is written as JSON text, so that no value changes.
"""

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from storage.readers.base import Block, Columns
from storage.readers.discovery import find_files, read_sources

ROW = "\0row"
"""Column with the number of the row in its file: no other column has such a name."""


def read_other_columns(source: str, columns: Columns, rows: Mapping[str, NDArray[np.int64]]) -> pa.Table:
    """Return the other columns of some rows, in the order of the source, with the column `ROW`.

    Args:
        source: file, folder, pattern or dataset.
        columns: columns of the text, which are left out.
        rows: sorted numbers of the rows by name of their file, as documents have it.
    """
    wanted = replace(columns, with_others=True)
    tables: list[pa.Table] = []
    for blocks in read_sources([(source, find_files(source))], wanted):
        for block in blocks:
            numbers = rows.get(block.source, np.zeros(0, np.int64))
            end = (
                block.first_row + sum(batch.num_rows for batch in block.rows)
                if block.kind == "batches"
                else (block.first_row + len(block.rows))
            )
            chosen = numbers[np.searchsorted(numbers, block.first_row) : np.searchsorted(numbers, end)]
            if len(chosen):
                tables.append(_columns_of(block, wanted, chosen))
    return _concatenate(tables)


def _columns_of(block: Block, columns: Columns, rows: NDArray[np.int64]) -> pa.Table:
    offsets = rows - block.first_row
    names = block.columns.optional if block.columns else ()
    if block.kind == "batches":
        table = pa.Table.from_batches(block.rows).select(list(names)).take(offsets)
    elif block.kind == "rows":
        first = len(block.columns.names) - len(names) if block.columns else 0
        cells = [block.rows[offset][first:] for offset in offsets]
        table = pa.table({name: _strings([row[at] for row in cells]) for at, name in enumerate(names)})
    elif block.kind == "lines":
        table = _columns_of_json([block.rows[offset] for offset in offsets], columns)
    else:
        table = pa.table({})
    return table.append_column(ROW, pa.array(rows)) if table.num_columns else pa.table({ROW: rows})


def _strings(cells: Sequence[str]) -> pa.Array:
    # Cells that are not UTF-8 were decoded with surrogates.
    return pa.array([cell.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for cell in cells], pa.string())


def _columns_of_json(lines: Sequence[bytes], columns: Columns) -> pa.Table:
    rows = [_object_of(line) for line in lines]
    names = dict.fromkeys(name for row in rows for name in columns.among(row).optional)
    return pa.table({_storable(name): _json_array([row.get(name) for row in rows]) for name in names})


def _object_of(line: bytes) -> dict[str, Any]:
    # orjson reads integers of more than 64 bits as floats.
    if not _LONG_NUMBER.search(line):
        with contextlib.suppress(ValueError):
            return dict(orjson.loads(line))
    return dict(json.loads(line.decode("utf-8-sig")))


_LONG_NUMBER = re.compile(rb"\d{19}")


def _storable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _json_array(values: Sequence[object]) -> pa.Array:
    """Return values of JSON as an array, as JSON text if Arrow has no type for all of them."""
    try:
        array = pa.array(values)
        if array.to_pylist() == list(values) and not _mixes_numbers(values) and not _has_empty_struct(array.type):
            return array
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, ValueError):
        pass
    return pa.array([None if value is None else json.dumps(value) for value in values], _JSON)


_JSON = pa.json_(pa.string())


def _has_empty_struct(kind: pa.DataType) -> bool:
    """Return whether a type contains objects without keys, which Parquet cannot store."""
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_has_empty_struct(field.type) for field in kind)
    return pa.types.is_list(kind) and _has_empty_struct(kind.value_type)


def _mixes_numbers(values: Sequence[object]) -> bool:
    """Return whether there are floats beside integers or booleans, which equal them and would become floats."""
    kinds = {type(value) for value in values}
    return bool in kinds and len(kinds & {int, float}) > 0


def _concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    columns = {name: _concatenate_column(name, tables) for name in names}
    return pa.table(columns) if columns else pa.table({ROW: pa.array([], pa.int64())})


def _concatenate_column(name: str, tables: Sequence[pa.Table]) -> pa.ChunkedArray:
    parts = [
        table[name].combine_chunks() if name in table.column_names else pa.nulls(table.num_rows) for table in tables
    ]
    parts = [part.combine_chunks() if isinstance(part, pa.ChunkedArray) else part for part in parts]
    types = {part.type for part in parts if not pa.types.is_null(part.type)}
    if not types:
        return pa.chunked_array([pa.nulls(len(part), pa.string()) for part in parts], pa.string())
    if len(types) == 1:
        (kind,) = types
        return pa.chunked_array(
            [pa.nulls(len(part), kind) if pa.types.is_null(part.type) else part for part in parts], kind
        )
    if _JSON not in types:
        try:
            schemas = [pa.schema([(name, kind)]) for kind in sorted(types, key=str)]
            kind = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
            unified = [part.cast(kind) for part in parts]
            # A cast of objects adds the keys that others have.
            if not pa.types.is_nested(kind) or all(
                part.to_pylist() == cast.to_pylist() for part, cast in zip(parts, unified, strict=True)
            ):
                return pa.chunked_array(unified, kind)
        except pa.ArrowException:
            pass
    return pa.chunked_array([_as_json(part) for part in parts], _JSON)


def _as_json(part: pa.Array) -> pa.Array:
    if part.type == _JSON:
        return part
    return pa.array([None if value is None else json.dumps(value, default=str) for value in part.to_pylist()], _JSON)
