"""Read foreign Parquet files in small batches of selected columns, with bounded memory whatever the file contains."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from heirloom.errors import one_line
from storage.readers.base import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    Columns,
    SourceFile,
    UnreadableFileError,
    require_columns,
)

_MOST_BYTES = 256 << 20
"""Maximum size of a batch if every value is as long as the whole dictionary page."""


def read_batches(file: SourceFile, columns: Columns) -> Iterator[tuple[list[pa.RecordBatch], int]]:
    """Yield batches of the selected columns, about one block at a time, with the position in the file.

    Raises:
        UnreadableFileError: it is not a Parquet file, or has no such column.
        pa.ArrowException, OSError: the file is truncated or damaged.
    """
    parquet = _open(file)
    require_columns(file.path, columns, parquet.schema_arrow.names)
    groups = parquet.metadata.num_row_groups
    for group in range(groups):
        rows = _batch_rows(file.path, parquet.metadata.row_group(group), columns.names)
        pending: list[pa.RecordBatch] = []
        size = count = 0
        for batch in parquet.iter_batches(rows, row_groups=[group], columns=columns.names, use_threads=False):
            pending.append(batch)
            size, count = size + batch.nbytes, count + batch.num_rows
            if size > BLOCK_BYTES or count >= BLOCK_ROWS:
                yield pending, file.size * group // groups
                pending, size, count = [], 0, 0
        if pending:
            yield pending, file.size * (group + 1) // groups


def columns_of(file: SourceFile, columns: Columns) -> Columns:
    """Return which columns of a Parquet file to read.

    Raises:
        UnreadableFileError: it is not a Parquet file.
    """
    return columns.among(_open(file).schema_arrow.names)


def _open(file: SourceFile) -> pq.ParquetFile:
    try:
        # Without pre-buffering, row groups are read page by page and not kept in memory as a whole.
        parquet = pq.ParquetFile(file.path, pre_buffer=False, buffer_size=1 << 20)
        # Names that are not UTF-8 show only here.
        parquet.schema_arrow.names  # noqa: B018
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(file.path, "is not a Parquet file", one_line(error)) from error
    return parquet


def unread_columns(file: SourceFile, columns: Columns) -> list[str]:
    """Return the columns of a Parquet file that are not read."""
    return [name for name in pq.read_schema(file.path).names if name not in columns.names]


def _batch_rows(path: Path, group: pq.RowGroupMetaData, wanted: list[str]) -> int:
    """Return a batch size that bounds memory: a dictionary value is stored once on disk but may be in every row."""
    rows = BLOCK_ROWS
    with path.open("rb") as file:
        for number in range(group.num_columns):
            column = group.column(number)
            if column.path_in_schema.split(".")[0] in wanted and column.has_dictionary_page:
                file.seek(column.dictionary_page_offset or 0)
                each = max(1, column.num_values // max(1, group.num_rows))
                longest = _dictionary_bytes(file.read(16)) or column.total_uncompressed_size
                rows = min(rows, _MOST_BYTES // max(1, longest * each))
    return max(1, rows)


def _dictionary_bytes(header: bytes) -> int:
    """Return the uncompressed size of a dictionary page from its Thrift header (field 1: page type, field 2: size)."""
    size = 0
    if not header.startswith(b"\x15\x04\x15"):
        return 0
    for index, byte in enumerate(header[3:8]):
        size |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return size >> 1
    return 0
