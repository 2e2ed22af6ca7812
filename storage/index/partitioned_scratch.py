"""Scratch tables on disk, partitioned so that no step needs more than a few partitions in memory.

A scratch folder belongs to one ingest and is deleted at its end; the next ingest deletes what a killed one left. Each
block of rows is a separate file, so several processes can write at the same time.
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
"""Compressed size on disk; about twice as much in memory."""


@dataclass(frozen=True)
class PartitionedScratch:
    """Rows of one schema in numbered partitions; first written, then read."""

    folder: Path
    schema: pa.Schema
    num_partitions: int

    def write(self, block: int, rows: pa.Table, partitions: NDArray[np.integer]) -> None:
        """Write the rows of one block; `partitions` holds the partition of each row."""
        if not rows.num_rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (batch,) = rows.take(np.argsort(partitions, kind="stable")).combine_chunks().to_batches()
        offset = 0
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(self.folder / f"{block:08d}.arrow"), self.schema, options=options) as writer:
            for count in np.bincount(partitions, minlength=self.num_partitions).tolist():
                writer.write_batch(batch.slice(offset, count))
                offset += count

    def spans_in_memory(self) -> list[range]:
        """Return ranges of partitions, each small enough to be read at once."""
        total_bytes = sum(path.stat().st_size for path in self._files())
        count = min(self.num_partitions, 1 + total_bytes // _SPAN_BYTES)
        edges = [self.num_partitions * number // count for number in range(count + 1)]
        return [range(*edge) for edge in pairwise(edges)]

    def read(self, partitions: Iterable[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of some partitions, or the given columns of them."""
        names = [name for name in self.schema.names if columns is None or name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=[self.schema.get_field_index(name) for name in names])
        schema = pa.schema([self.schema.field(name) for name in names])
        batches: list[pa.RecordBatch] = []
        for path in self._files():
            with pa.OSFile(str(path)) as file:
                reader = pa.ipc.open_file(file, options=options)
                batches += (reader.get_batch(partition) for partition in partitions)
        return pa.Table.from_batches([batch for batch in batches if batch.num_rows], schema=schema)

    def iter_batches(self) -> Iterator[pa.Table]:
        """Yield all rows, one table per block."""
        for path in self._files():
            with pa.OSFile(str(path)) as file:
                yield pa.ipc.open_file(file).read_all()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.arrow"))


def discard(folder: Path) -> None:
    """Delete a folder, and its parent if that is then empty."""
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """Yield an empty folder for one process; it is deleted when the block ends.

    Raises:
        BusyError: another process uses it.
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
                # Leave no empty folders if nothing was published.
                folder.parent.rmdir()
                folder.parent.parent.rmdir()
    except BlockingIOError as error:
        raise BusyError(f"another process is at work in {folder.parent}; wait until it has ended") from error
    finally:
        os.close(lock)
