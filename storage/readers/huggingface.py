"""Hugging Face data sets as a source: `hf:NAME?split=train&name=CONFIG`, or `hf:FOLDER` that `save_to_disk` wrote.

What stands behind the question mark goes to `datasets.load_dataset` as it is. A data set by name is streamed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pyarrow as pa

from heirloom.errors import HeirloomError
from storage.readers.base import Block, Columns, UnreadableFileError, single_line

HF_PREFIX = "hf:"
_ROWS = 4_096


def read_dataset(source: str, columns: Columns) -> Iterator[Block]:
    """The rows of a data set, block by block.

    Raises:
        HeirloomError: `datasets` is not installed, there is no such data set or split, or it has no such column.
    """
    name, _, asked = source.removeprefix(HF_PREFIX).partition("?")
    place = 0
    for batch in _opened(source, name, dict(parse_qsl(asked)), columns):
        yield Block(name, place, [batch], "batches")
        place += batch.num_rows


def _opened(source: str, name: str, asked: dict[str, str], columns: Columns) -> Iterator[pa.RecordBatch]:
    try:
        import datasets
    except ImportError as error:
        raise HeirloomError(f"{source} needs the package datasets; install heirloom[hf]") from error
    split = asked.pop("split", "train")
    try:
        found: Any = (
            datasets.load_from_disk(name)
            if Path(name).is_dir()
            else datasets.load_dataset(name, split=split, streaming=True, **asked)
        )
    except Exception as error:  # the library raises whatever its file systems and its network raise
        raise HeirloomError(f"{source} cannot be opened: {single_line(error)}") from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise HeirloomError(f"{source} has no split {split!r}; its splits: {', '.join(found)}")
        found = found[split]
    known = list(found.column_names or columns.names)
    for wanted in columns.names:
        if wanted not in known:
            raise UnreadableFileError(source, f"has no column {wanted!r}", f"its columns: {', '.join(known)}")
    try:
        for table in found.select_columns(columns.names).with_format("arrow").iter(_ROWS):
            yield from table.to_batches()
    except Exception as error:
        raise HeirloomError(f"{source} cannot be read on: {single_line(error)}") from error
