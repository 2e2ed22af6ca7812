from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storage.readers.base import BLOCK_BYTES, Columns, SourceFile
from storage.readers.parquet import read_batches


def _file(path: Path) -> SourceFile:
    return SourceFile(path, path.name, ".parquet", None, path.stat().st_size, explicit=True)


def test_every_row_group_is_read_with_the_position(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(1000), "text": [str(n) for n in range(1000)]}), path, row_group_size=300)
    found = list(read_batches(_file(path), Columns()))
    assert [row for batches, _ in found for batch in batches for row in batch["text"].to_pylist()] == [
        str(n) for n in range(1000)
    ]
    assert found[-1][1] == path.stat().st_size


def test_a_value_that_is_small_on_disk_and_large_in_every_row_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    # Thirty gigabytes of text in a file of a few kilobytes.
    bomb = pa.DictionaryArray.from_arrays(pa.array([0] * 15_000, pa.int32()), pa.array(["x" * 2_000_000]))
    pq.write_table(pa.table({"text": bomb}), path, compression="zstd", dictionary_pagesize_limit=1 << 30)
    assert path.stat().st_size < 100_000
    batches, _ = next(read_batches(_file(path), Columns()))
    assert all(batch.num_rows <= 140 for batch in batches)
    assert sum(batch.nbytes for batch in batches) < 300 * 1024 * 1024 + BLOCK_BYTES
