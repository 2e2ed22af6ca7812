"""Rows set down on disk in buckets, so that no step holds more than one bucket of them.

A spill is scratch: it belongs to one ingest and is gone when that has ended well or refused. What a killed process
left is cleared by the next one. Every block of rows is a file of its own, so many processes can write at once.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from storage.runs.run import BusyError

_SPAN_BYTES = 16 << 20
"""As packed on disk; about twice that in memory."""


@dataclass(frozen=True)
class PartitionedScratch:
    """Rows of one schema in numbered buckets; written first, read afterwards."""

    folder: Path
    schema: pa.Schema
    num_partitions: int

    def write(self, block: int, rows: pa.Table, partitions: NDArray[np.integer]) -> None:
        """Set down the rows of one block, each in its bucket."""
        if not rows.num_rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (batch,) = rows.take(np.argsort(partitions, kind="stable")).combine_chunks().to_batches()
        at = 0
        packed = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(self.folder / f"{block:08d}.arrow"), self.schema, options=packed) as writer:
            for count in np.bincount(partitions, minlength=self.num_partitions).tolist():
                writer.write_batch(batch.slice(at, count))
                at += count

    def spans_in_memory(self) -> list[range]:
        """The buckets in runs that can be held at once: all of them where there is little, one where there is much."""
        packed = sum(path.stat().st_size for path in self._files())
        count = min(self.num_partitions, 1 + packed // _SPAN_BYTES)
        edges = [self.num_partitions * number // count for number in range(count + 1)]
        return [range(*edge) for edge in pairwise(edges)]

    def read(self, partitions: Iterable[int], columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of some buckets; columns as asked."""
        names = [name for name in self.schema.names if columns is None or name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(name) for name in names])
        schema = pa.schema([self.schema.field(name) for name in names])
        batches: list[pa.RecordBatch] = []
        for path in self._files():
            with pa.OSFile(str(path)) as file:
                reader = pa.ipc.open_file(file, options=options)
                batches += (reader.get_batch(bucket) for bucket in partitions)
        return pa.Table.from_batches([batch for batch in batches if batch.num_rows], schema=schema)

    def iter_batches(self) -> Iterator[pa.Table]:
        """Everything, a block at a time."""
        for path in self._files():
            with pa.OSFile(str(path)) as file:
                yield pa.ipc.open_file(file).read_all()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.arrow"))


def discard(folder: Path) -> None:
    """Remove a folder, and the one it is in if that is left empty: nothing will come of it."""
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for one process, removed when the block ends.

    Raises:
        BusyError: another process works in it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                # Where nothing came of it, nothing stays.
                folder.parent.rmdir()
                folder.parent.parent.rmdir()
    except BlockingIOError as error:
        raise BusyError(f"another process is at work in {folder.parent}; wait until it has ended") from error
    finally:
        os.close(lock)
