"""Index of MinHash sketches of surviving records, and the search for those that match new records.

<attempt>/index/part-00000.parquet    one row per record, columns as in `storage.artifacts.schemas.index_schema`

Signatures and hashes are not compressed, so that those of a few records can be read alone. DuckDB joins new and indexed
records by streaming one column at a time, and spills to disk above its memory limit. No LSH bucket is joined with
itself.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from storage.artifacts.artifact import ArtifactMissingError, part_paths
from storage.artifacts.tombstones import tombstoned_hashes

RowIds = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_MAX_BUCKET_RECORDS = 16
"""Records of a bucket that are returned, besides its last one."""
_ROW_ID_SQL = "file_index * 4294967296 + file_row_number"


class SketchIndex:
    """Sketches of the records of several tables, oldest table first.

    The row id of a record is the number of its index file, times 2^32, plus its row in the file.
    """

    def __init__(self, tables: Sequence[tuple[Path, Path]], memory_limit: str = "2GB") -> None:
        """Open finished index artifacts or single files, oldest first, each with the artifact that holds its texts.

        Raises:
            ArtifactMissingError: one of them is not finished.
        """
        self._files = [(part, texts) for index, texts in tables for part in _files_of(index)]
        self._erased = tombstoned_hashes(tables[0][0]) if tables else pa.array([], pa.string())
        self._memory_limit = memory_limit

    def exact_matches(self, keys: Hashes) -> RowIds:
        """Return the sorted row ids of the records that have one of these exact keys, shape (keys, 2)."""
        fresh = pa.table({"high": keys[:, 0], "low": keys[:, 1]})
        return self._query(f"select {_ROW_ID_SQL} as row_id from {self._join_sql('fresh', 'high, low')}", fresh)

    def candidate_matches(self, hashes: Hashes) -> RowIds:
        """Return the sorted row ids of the records that share a band with one of these, shape (records, bands).

        Of a bucket with more than 16 records, the first 16 and the last are returned.
        """
        names = [f"band_{band}" for band in range(hashes.shape[1])]
        fresh = pa.table(dict(zip(names, hashes.T, strict=True)))
        matches = " union all ".join(
            f"select {_ROW_ID_SQL} as row_id, {name} as hash "
            f"from {self._join_sql(f'(select {name} from fresh where {name} <> 0)', name)}"
            for name in names
        )
        limited = (
            f"select unnest(list_append(min(row_id, {_MAX_BUCKET_RECORDS}), max(row_id))) as row_id "
            f"from ({matches}) group by hash"
        )
        return self._query(f"select distinct row_id from ({limited})", fresh)

    def select(self, row_ids: RowIds, columns: Sequence[str]) -> pa.Table:
        """Return columns of the records with these sorted row ids."""
        tables = [
            self._read_rows(file, row_ids[row_ids >> 32 == file] & 0xFFFFFFFF, columns) for file in _files(row_ids)
        ]
        # Without an index file the types of the columns are unknown.
        return pa.concat_tables(tables) if tables else pa.table({name: pa.nulls(0) for name in columns})

    def texts(self, row_ids: RowIds) -> list[str]:
        """Return the texts of the records with these sorted row ids.

        Raises:
            ArtifactMissingError: an artifact of texts lacks a record of its index.
        """
        found_texts: list[str] = []
        for file in _files(row_ids):
            ids = self.select(row_ids[row_ids >> 32 == file], ["id"])["id"]
            folder = self._files[file][1]
            texts = read_texts_by_id(folder, ids.combine_chunks())
            if len(texts) < len(ids):
                raise ArtifactMissingError(
                    f"{folder} lacks records that its index contains. Delete the index to rebuild it."
                )
            found_texts += [texts[record_id] for record_id in ids.to_pylist()]
        return found_texts

    def _join_sql(self, fresh: str, columns: str) -> str:
        """Return SQL for the rows of all files with a match in `fresh` on these columns, without erased records."""
        condition = " where text_hash not in (select unnest($erased))" if len(self._erased) else ""
        return f"read_parquet($files, file_row_number = true) semi join {fresh} using ({columns}){condition}"

    def _query(self, query: str, fresh: pa.Table) -> RowIds:
        if not self._files or not len(fresh):
            return np.zeros(0, np.int64)
        config: dict[str, str] = {"memory_limit": self._memory_limit, "temp_directory": tempfile.gettempdir()}
        parameters: dict[str, list[str] | list[int]] = {"files": [str(part) for part, _ in self._files]}
        if len(self._erased):
            parameters["erased"] = self._erased.to_pylist()
        with duckdb.connect(config=config) as connection:
            connection.register("fresh_records", fresh)
            connection.execute("create temp table fresh as from fresh_records")
            rows = connection.sql(f"{query} order by row_id", params=parameters).to_arrow_table()
            return rows["row_id"].to_numpy().astype(np.int64)

    def _read_rows(self, file: int, rows: RowIds, columns: Sequence[str]) -> pa.Table:
        """Read rows of one file: row groups without them are skipped, and uncompressed columns are memory-mapped."""
        selected = []
        with pq.ParquetFile(self._files[file][0], memory_map=True, pre_buffer=False) as opened:
            start = 0
            for group in range(opened.num_row_groups):
                stop = start + opened.metadata.row_group(group).num_rows
                wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)] - start
                if len(wanted):
                    selected.append(opened.read_row_group(group, columns, use_threads=False).take(pa.array(wanted)))
                start = stop
        return pa.concat_tables(selected)


def read_texts_by_id(path: Path, ids: pa.Array) -> dict[str, str]:
    """Return texts by id from an artifact or a single file; texts of row groups without these records are not read."""
    texts_by_id: dict[str, str] = {}
    for part in _files_of(path):
        with pq.ParquetFile(part, page_checksum_verification=True) as opened:
            for group in range(opened.num_row_groups):
                group_ids = opened.read_row_group(group, ["id"], use_threads=False)["id"]
                selected = pc.is_in(group_ids, value_set=ids)
                if pc.any(selected).as_py():
                    texts = opened.read_row_group(group, ["text"], use_threads=False)["text"].filter(selected)
                    texts_by_id |= dict(zip(group_ids.filter(selected).to_pylist(), texts.to_pylist(), strict=True))
    return texts_by_id


def _files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else part_paths(path)


def _files(row_ids: RowIds) -> Iterator[int]:
    yield from np.unique(row_ids >> 32).tolist()
