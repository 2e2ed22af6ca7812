"""Signatures and band hashes of a table, stored once, and which rows of two tables are worth comparing.

<folder>/bands.parquet        hash uint64, row uint32: one line a band of a row, in the order of hash
         signatures.parquet   id string, signature fixed_size_binary: row by row, uint32 values little-endian

Neither is compressed nor has a dictionary: hashes do neither well. Only rows that stay should be written, or what was dropped
pulls in more. Format 1 of the values is described in docs/near-duplicates.md; the manifest's settings and the file's own
note say which settings made them, and tables of different ones are never compared.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.artifact import AbsentError, DriftError, differences

BANDS = pa.schema([("hash", pa.uint64()), ("row", pa.uint32())])
"""One band hash of one row; a row without shingles has none."""

_NOTE = b"heirloom.near_duplicates"
_ROW_GROUP = 122_880
_NAMED = 16
"""Old rows of one bucket that a new row is held against; two texts that are alike share several buckets."""


def write_index(
    folder: Path,
    ids: Sequence[str],
    signatures: NDArray[np.uint32],
    hashes: NDArray[np.uint64],
    made_with: Mapping[str, Any],
) -> None:
    """Write both files; `signatures` has shape (rows, values), `hashes` (rows, bands), where 0 stands for no hash.

    `made_with` says which format and settings the values have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = {_NOTE: json.dumps(made_with, sort_keys=True).encode()}
    rows = np.repeat(np.arange(len(hashes), dtype=np.uint32), hashes.shape[1])
    flat = hashes.ravel()
    order = np.argsort(flat, kind="stable")
    order = order[np.searchsorted(flat[order], 1) :]
    _write(
        pa.table({"hash": flat[order], "row": rows[order]}, schema=BANDS.with_metadata(note)), folder / "bands.parquet"
    )
    width = 4 * signatures.shape[1]
    values = pa.py_buffer(np.ascontiguousarray(signatures, "<u4"))
    column = pa.Array.from_buffers(pa.binary(width), len(ids), [None, values])
    schema = pa.schema([("id", pa.string()), ("signature", pa.binary(width))], metadata=note)
    _write(
        pa.table({"id": pa.array(ids, pa.string()), "signature": column}, schema=schema), folder / "signatures.parquet"
    )


def read_signatures(folder: Path) -> tuple[list[str], NDArray[np.uint32]]:
    """Ids and signatures, shape (rows, values), as they were written.

    Raises:
        AbsentError: there is no index.
    """
    path = _there(folder / "signatures.parquet")
    table = pq.read_table(path)
    column = table["signature"].combine_chunks()
    width = column.type.byte_width // 4
    start = column.offset * width
    values = np.frombuffer(column.buffers()[1], "<u4")[start : start + len(column) * width].reshape(-1, width)
    return table["id"].to_pylist(), values.astype(np.uint32, copy=False)


def candidate_pairs(new: Path, old: Sequence[Path], memory_limit: str = "1GB") -> pa.Table:
    """Rows of `new` that share a band with rows of `old`: columns `new`, `folder` (a place in `old`) and `old`.

    DuckDB joins the new bands, which are few, with the old ones as they stream by, and spills to disk what does not
    fit in `memory_limit`. Of a bucket of many old rows only the first 16 of each folder are named, so that a shared template
    does not make pairs without end.

    Raises:
        AbsentError: an index is not there.
        DriftError: two indexes were made with different settings.
    """
    _refuse_difference([new, *old])
    if not old:
        return pa.table(
            {"new": pa.array([], pa.uint32()), "folder": pa.array([], pa.int32()), "old": pa.array([], pa.uint32())}
        )
    with duckdb.connect(config={"memory_limit": memory_limit}) as connection:
        history = " union all ".join(
            f"select {place}::int as folder, hash, row from read_parquet(?)" for place in range(len(old))
        )
        question = f"""with fresh as (select hash, row from read_parquet(?)),
                 met as (select folder, hash, unnest(min(row, {_NAMED})) as row
                    from ({history}) semi join fresh using (hash) group by folder, hash)
            select distinct fresh.row as new, met.folder, met.row as old from fresh join met using (hash) order by all"""
        places = [str(folder / "bands.parquet") for folder in (new, *old)]
        return connection.execute(question, places).to_arrow_table()


def _write(table: pa.Table, path: Path) -> None:
    hidden = path.with_name(f".{path.name}")
    pq.write_table(table, hidden, compression="none", use_dictionary=False, row_group_size=_ROW_GROUP)
    hidden.rename(path)


def _refuse_difference(folders: Sequence[Path]) -> None:
    notes = [_note(folder) for folder in folders]
    for folder, note in zip(folders, notes, strict=True):
        if found := differences(note, notes[0], "made_with"):
            raise DriftError(f"{folder} cannot be compared with {folders[0]}: {'; '.join(found)}; write it again")


def _note(folder: Path) -> Any:  # noqa: ANN401  (JSON values)
    metadata = pq.read_schema(_there(folder / "bands.parquet")).metadata or {}
    if _NOTE not in metadata:
        raise AbsentError(f"{folder / 'bands.parquet'} does not say what it was made with; write it again")
    return json.loads(metadata[_NOTE])


def _there(path: Path) -> Path:
    if not path.exists():
        raise AbsentError(f"there is no {path}; write the index first")
    return path
