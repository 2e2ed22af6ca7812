"""How a table lies in a file: small to keep, quick to ask, each page with a checksum that reading tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from heirloom.errors import HeirloomError

_ROW_GROUP = 16_384
_REPEATING = {
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
_PACKED = {"id", "text_hash", "source_generation"}
"""Columns beside vectors and hashes that are worth packing."""


class DamagedError(HeirloomError):
    """A file is there and does not hold what was written to it."""


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as the store does: zstd 3, row groups of 16,384, a dictionary only where values repeat.

    Vectors and hashes stay as they are: there is nothing in them to compress, and of what is not compressed a few rows
    can be read without the others.
    """
    repeating = [name for name in table.column_names if name in _REPEATING]
    packing: dict[str, Any] = {"compression": "zstd", "compression_level": 3}
    if {"vector", "signature"} & {*table.column_names}:
        packing = {"compression": {name: "zstd" for name in table.column_names if name in _PACKED}}
    pq.write_table(
        table,
        path,
        **packing,
        row_group_size=_ROW_GROUP,
        use_dictionary=repeating,
        write_page_checksum=True,
    )


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one file, columns as asked.

    Raises:
        DamagedError: it is cut off, or a page is not as it was written.
    """
    try:
        # As a single file, so that `generation=3` in its path does not become a column.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=columns)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise DamagedError(f"{path} is damaged ({said}); heirloom verify says what else is, and what to do") from error
