"""Sketches of records that stay, as tables, and which of these records share something with new ones.

<attempt>/index/part-00000.parquet    a row a record, columns as `storage.records.index` says

Signatures and hashes lie uncompressed, so that those of a few records can be read without the others. What is common to new
records and old ones is found by DuckDB, a column at a time as it streams by, and spilled to disk where it is more than
memory may hold. No bucket is ever joined with itself.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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

_NAMED = 16
"""Records of a bucket that are named beside its last: of one with more, its first and its last alone are ever compared."""
_PLACE = "file_index * 4294967296 + file_row_number"


class SketchIndex:
    """The records of several tables, one table after the other, by their sketches.

    A record's place is the number of its index file among all of them, times 2^32, and its row there.
    """

    def __init__(self, tables: Sequence[tuple[Path, Path]], memory_limit: str = "2GB") -> None:
        """Look into finished index artifacts, oldest first, each with the artifact that holds its texts; or into single files.

        Raises:
            ArtifactMissingError: one of them is not finished.
        """
        self._files = [(part, texts) for index, texts in tables for part in _files_of(index)]
        self._gone = tombstoned_hashes(tables[0][0]) if tables else pa.array([], pa.string())
        self._memory_limit = memory_limit

    def exact_matches(self, keys: Hashes) -> RowIds:
        """Places of the records that have one of these exact keys, shape (keys, 2), in order."""
        fresh = pa.table({"high": keys[:, 0], "low": keys[:, 1]})
        return self._asked(f"select {_PLACE} as place from {self._shared('fresh', 'high, low')}", fresh)

    def candidate_matches(self, hashes: Hashes) -> RowIds:
        """Places of the records that share a band with one of these, shape (records, bands), in order.

        Of a bucket of more than 16 records the first 16 are named, and the last.
        """
        names = [f"band_{band}" for band in range(hashes.shape[1])]
        fresh = pa.table(dict(zip(names, hashes.T, strict=True)))
        met = " union all ".join(
            f"select {_PLACE} as place, {name} as hash "
            f"from {self._shared(f'(select {name} from fresh where {name} <> 0)', name)}"
            for name in names
        )
        named = f"select unnest(list_append(min(place, {_NAMED}), max(place))) as place from ({met}) group by hash"
        return self._asked(f"select distinct place from ({named})", fresh)

    def select(self, row_ids: RowIds, columns: Sequence[str]) -> pa.Table:
        """Columns of the records at these places, which are in order."""
        found = [self._taken(file, row_ids[row_ids >> 32 == file] & 0xFFFFFFFF, columns) for file in _files(row_ids)]
        # Without any index there is nobody to say which types its columns have.
        return pa.concat_tables(found) if found else pa.table({name: pa.nulls(0) for name in columns})

    def texts(self, row_ids: RowIds) -> list[str]:
        """The texts at these places, which are in order.

        Raises:
            ArtifactMissingError: an artifact of texts does not hold a record that its index names.
        """
        found: list[str] = []
        for file in _files(row_ids):
            ids = self.select(row_ids[row_ids >> 32 == file], ["id"])["id"]
            folder = self._files[file][1]
            texts = read_texts_by_id(folder, ids.combine_chunks())
            if len(texts) < len(ids):
                raise ArtifactMissingError(
                    f"{folder} lacks records that its index names; remove the index to make it anew"
                )
            found += [texts[identity] for identity in ids.to_pylist()]
        return found

    def _shared(self, fresh: str, columns: str) -> str:
        """The rows of all files that have a fellow in `fresh`, by these columns; without those that were forgotten."""
        living = " where text_hash not in (select unnest($gone))" if len(self._gone) else ""
        return f"read_parquet($files, file_row_number = true) semi join {fresh} using ({columns}){living}"

    def _asked(self, question: str, fresh: pa.Table) -> RowIds:
        if not self._files or not len(fresh):
            return np.zeros(0, np.int64)
        config: dict[str, Any] = {"memory_limit": self._memory_limit, "temp_directory": tempfile.gettempdir()}
        given: dict[str, Any] = {"files": [str(part) for part, _ in self._files]}
        given |= {"gone": self._gone.to_pylist()} if len(self._gone) else {}
        with duckdb.connect(config=config) as connection:
            connection.register("given", fresh)
            connection.execute("create temp table fresh as from given")
            told = connection.sql(f"{question} order by place", params=given).to_arrow_table()
            return told["place"].to_numpy().astype(np.int64)

    def _taken(self, file: int, rows: RowIds, columns: Sequence[str]) -> pa.Table:
        """Row groups without a wanted row are not touched, and of the others what is not compressed is not copied."""
        found = []
        with pq.ParquetFile(self._files[file][0], memory_map=True, pre_buffer=False) as opened:
            start = 0
            for group in range(opened.num_row_groups):
                stop = start + opened.metadata.row_group(group).num_rows
                wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)] - start
                if len(wanted):
                    found.append(opened.read_row_group(group, columns, use_threads=False).take(pa.array(wanted)))
                start = stop
        return pa.concat_tables(found)


def read_texts_by_id(path: Path, ids: pa.Array) -> dict[str, str]:
    """Texts by id, of an artifact or a single file; row groups that hold none of these records are not unpacked."""
    found: dict[str, str] = {}
    for part in _files_of(path):
        with pq.ParquetFile(part, page_checksum_verification=True) as opened:
            for group in range(opened.num_row_groups):
                there = opened.read_row_group(group, ["id"], use_threads=False)["id"]
                asked = pc.is_in(there, value_set=ids)
                if pc.any(asked).as_py():
                    texts = opened.read_row_group(group, ["text"], use_threads=False)["text"].filter(asked)
                    found |= dict(zip(there.filter(asked).to_pylist(), texts.to_pylist(), strict=True))
    return found


def _files_of(place: Path) -> list[Path]:
    return [place] if place.is_file() else part_paths(place)


def _files(places: RowIds) -> Iterator[int]:
    yield from np.unique(places >> 32).tolist()
