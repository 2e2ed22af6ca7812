"""Records to their sides and into parts: bucket by bucket in order of the digest, so never all at once."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.splitting import IngestSettings
from storage.artifacts.artifact import Draft, part_paths
from storage.artifacts.schemas import HUMAN, HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.artifacts.tombstones import drop_rows, tombstoned_hashes
from tasks.ingestion.dedup import DedupResult, human_ids

SIDES = ("human_train", "human_heldout")
_PART_ROWS, _PART_BYTES = 262_144, 64 << 20


class PartWriter:
    """Rows of an artifact, written by the part as they come; None writes nothing and counts."""

    def __init__(self, draft: Draft | None, schema: pa.Schema) -> None:
        self._draft, self._schema = draft, schema
        self._pending: list[pa.Table] = []
        self._number = self._rows = self._bytes = 0
        self.rows = 0
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self.reasons: Counter[str] = Counter()
        for stray in draft.folder.glob("part-*") if draft else ():
            stray.unlink()

    def append(self, table: pa.Table) -> None:
        """Take rows; write a part when there are enough."""
        if "reason" in self._schema.names and table.num_rows:
            told = table.group_by("reason").aggregate([([], "count_all")])
            self.reasons.update(dict(zip(told["reason"].to_pylist(), told["count_all"].to_pylist(), strict=True)))
        self.rows += table.num_rows
        self._pending.append(table)
        self._rows, self._bytes = self._rows + table.num_rows, self._bytes + table.nbytes
        if self._rows >= _PART_ROWS or self._bytes >= _PART_BYTES:
            self._write()

    def copy_from(self, folder: Path) -> None:
        """Take over every part of a finished artifact, less what was forgotten; columns that it did not have yet are empty."""
        gone = tombstoned_hashes(folder)
        for path in part_paths(folder):
            for batch in pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20).iter_batches():
                table = pa.Table.from_batches([batch])
                self.append(
                    _widened(drop_rows(table, gone) if "text_hash" in table.column_names else table, self._schema)
                )

    def close(self) -> None:
        """Write what is left; an artifact has at least one part."""
        if self._rows or not self._number:
            self._write()
        self._wait()
        self._writer.shutdown()

    def _wait(self) -> None:
        if self._writing:
            self._writing.result()

    def _write(self) -> None:
        if self._draft:
            whole = pa.concat_tables(self._pending) if self._pending else self._schema.empty_table()
            self._wait()
            # Packing is Arrow's work, and the next rows can be read meanwhile.
            self._writing = self._writer.submit(self._draft.write_part, whole, self._number)
        self._number += 1
        self._pending, self._rows, self._bytes = [], 0, 0


def split_and_write(
    found: DedupResult,
    existing: Mapping[str, Sequence[str]],
    room: Mapping[str, int | None],
    settings: IngestSettings,
    forgotten: pa.Array,
    written: Mapping[str, PartWriter],
    report: Callable[[int, int], None],
) -> None:
    """Write every record to its side, and what repeats, has no room or was forgotten to `rejected_documents`.

    `placed` says which sources are on which side already; `forgotten` are digests of texts that must not come back.
    """
    left = dict(room)
    spans = found.records.spans_in_memory()
    for number, span in enumerate(spans, 1):
        table, repeated = found.partition(span)
        gone = pc.is_in(table["text_hash"], value_set=forgotten)
        written["rejected_documents"].append(_aside(table.filter(gone), "forget", "was forgotten"))
        table = table.filter(pc.invert(gone))
        order = pc.sort_indices(table["text_hash"])
        held_out = _held_out(table, existing).take(order)
        for side, mask in (("human_train", pc.invert(held_out)), ("human_heldout", held_out)):
            rows = table.take(order.filter(mask.combine_chunks()))
            fits = rows.num_rows if (most := left[side]) is None else min(rows.num_rows, most)
            if most is not None:
                left[side] = most - fits
            written[side].append(_records(rows.slice(0, fits), settings))
            written["rejected_documents"].append(_aside(rows.slice(fits), "limit", f"the {side} is full"))
        written["rejected_documents"].append(repeated)
        report(number, len(spans))


def existing_split_by_group(folders: Mapping[str, Path], settings: IngestSettings) -> dict[str, list[str]]:
    """Which groups an earlier snapshot has on which side, where groups are sources."""
    if settings.split_by != "source":
        return {side: [] for side in SIDES}
    return {side: sorted(set(_groups(folder))) for side, folder in folders.items()} or {side: [] for side in SIDES}


def _groups(folder: Path) -> Iterator[str]:
    for path in part_paths(folder):
        for batch in pq.ParquetFile(path).iter_batches(columns=["split_group"]):
            yield from pc.unique(batch.column(0)).to_pylist()


def _held_out(table: pa.Table, placed: Mapping[str, Sequence[str]]) -> pa.ChunkedArray:
    """A group stays on the side it is on, whatever share of the groups is held out by now."""
    held_out = table["is_heldout"]
    for side in SIDES:
        if placed[side]:
            known = pc.is_in(table["source"], value_set=pa.array(placed[side], pa.string()))
            held_out = pc.if_else(known, side == "human_heldout", held_out)
    return held_out


def _records(rows: pa.Table, settings: IngestSettings) -> pa.Table:
    count = rows.num_rows
    return pa.table(
        {
            "id": human_ids(rows["text_hash"]),
            "text": rows["text"],
            "origin": pa.repeat(HUMAN, count),
            "source_generation": pa.array(np.zeros(count, np.int32)),
            "source": rows["source"],
            "split_group": rows["source" if settings.split_by == "source" else "text_hash"],
            "license": rows["license"],
            "text_hash": rows["text_hash"],
            "document_id": rows["document_id"],
            "messages": rows["messages"],
        },
        schema=HUMAN_RECORDS,
    )


def _aside(rows: pa.Table, stage: str, reason: str) -> pa.Table:
    count = rows.num_rows
    told = {
        "id": human_ids(rows["text_hash"]),
        "source": rows["source"],
        "row_number": rows["row_number"],
        "filter": pa.repeat(stage, count),
        "reason": pa.repeat(reason, count),
        "document_id": rows["document_id"],
    }
    return _widened(pa.table(told), REJECTED_DOCUMENTS)


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
