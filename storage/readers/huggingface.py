"""Hugging Face datasets as a source: `hf:NAME?split=train&name=CONFIG`, or `hf:FOLDER` written by `save_to_disk`.

The parameters after the question mark are passed to `datasets.load_dataset`. A dataset from the hub is streamed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pyarrow as pa

from heirloom.errors import HeirloomError, did_you_mean, one_line
from storage.readers.base import Block, Columns, require_columns

HF_PREFIX = "hf:"
_ROWS = 4_096


def read_dataset(source: str, columns: Columns) -> Iterator[Block]:
    """Yield the rows of a dataset, block by block.

    Raises:
        HeirloomError: `datasets` is not installed, there is no such dataset or split, or it lacks a column.
    """
    name, _, arguments = source.removeprefix(HF_PREFIX).partition("?")
    place = 0
    dataset = _open(source, name, dict(parse_qsl(arguments)))
    known = list(dataset.column_names or columns.names)
    columns = columns.among(known)
    require_columns(source, columns, known)
    unread = [column for column in known if column not in columns.names]
    for batch in _batches(source, dataset, columns):
        yield Block(name, place, [batch], "batches", unread_columns=unread, columns=columns)
        place += batch.num_rows


def _open(source: str, name: str, arguments: dict[str, str]) -> Any:  # noqa: ANN401  (a dataset of either kind)
    try:
        import datasets
    except ImportError as error:
        raise HeirloomError(f"{source} needs the package datasets; install heirloom[hf]") from error
    split = arguments.pop("split", "train")
    try:
        dataset: Any = (
            datasets.load_from_disk(name)
            if Path(name).is_dir()
            else datasets.load_dataset(name, split=split, streaming=True, **arguments)
        )
    except Exception as error:  # the errors of many file systems and network libraries
        raise HeirloomError(f"{source} cannot be opened: {one_line(error)}") from error
    if isinstance(dataset, datasets.DatasetDict):
        if split not in dataset:
            suggestion = did_you_mean(split, dataset)
            raise HeirloomError(f"{source} has no split {split!r}.{suggestion} Its splits: {', '.join(dataset)}")
        dataset = dataset[split]
    return dataset


def _batches(source: str, dataset: Any, columns: Columns) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    try:
        for table in dataset.select_columns(columns.names).with_format("arrow").iter(_ROWS):
            yield from table.to_batches()
    except Exception as error:
        raise HeirloomError(f"{source} cannot be read on: {one_line(error)}") from error
