"""How a table lies in a file: what was measured to be small to keep and quick to ask."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_ROW_GROUP = 16_384


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as the store does: zstd 3, row groups of 16,384, a dictionary only where values repeat.

    Vectors stay as they are: there is nothing in them to compress.
    """
    repeating = [name for name in table.column_names if name in _REPEATING]
    packing: dict[str, Any] = {} if "vector" in table.column_names else {"compression": "zstd", "compression_level": 3}
    pq.write_table(
        table, path, **{"compression": "none"} | packing, row_group_size=_ROW_GROUP, use_dictionary=repeating
    )


_REPEATING = {
    "origin",
    "born",
    "source",
    "group",
    "licence",
    "program",
    "model",
    "finish_reason",
    "stage",
    "reason",
    "subject",
    "metric",
    "action",
    "prompt",
}
