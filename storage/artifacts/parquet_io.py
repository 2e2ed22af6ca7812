"""Read and write the Parquet files of the store, with page checksums."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from heirloom.commands import suggest
from heirloom.errors import HeirloomError, one_line

_ROW_GROUP = 16_384
_DICTIONARY_COLUMNS = {
    "origin",
    "source_generation",
    "source",
    "split_group",
    "license",
    "prompt_template",
    "model_fingerprint",
    "finish_reason",
    "filter",
    "reason",
    "subject",
    "metric",
    "action",
    "prompt",
}
_COMPRESSED_NEXT_TO_VECTORS = {"id", "text_hash", "source_generation"}
"""Columns that are compressed in tables with vectors or signatures."""


class DamagedError(HeirloomError):
    """A file exists, but its content is not what was written."""


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table with zstd level 3, row groups of 16,384 rows, and dictionaries only for repetitive columns.

    Vectors and signatures are not compressed: they do not shrink, and single rows can then be read through a memory
    map.
    """
    dictionary_columns = [name for name in table.column_names if name in _DICTIONARY_COLUMNS]
    compression: str | dict[str, str] = "zstd"
    if {"vector", "signature"} & {*table.column_names}:
        compression = {name: "zstd" for name in table.column_names if name in _COMPRESSED_NEXT_TO_VECTORS}
    pq.write_table(
        table,
        path,
        compression=compression,
        compression_level=3 if compression == "zstd" else None,
        row_group_size=_ROW_GROUP,
        use_dictionary=dictionary_columns,
        write_page_checksum=True,
    )


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one file, or the given columns of it.

    Raises:
        DamagedError: the file is truncated, or a page fails its checksum.
    """
    try:
        # Not as a dataset, which would turn `generation=3` in the path into a column.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=columns)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        reason = one_line(error).rstrip(".")
        raise DamagedError(f"{path} is damaged ({reason}). To check the whole store: {suggest('verify')}") from error
