"""Split deduplicated records into training and held-out set, and write them in parts.

Records are processed in partitions of their text hash, and sorted by it within each, so the output does not depend on
reading order, and memory use does not grow with the input.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.splitting import IngestSettings
from storage.artifacts.artifact import Draft, part_paths
from storage.artifacts.schemas import HUMAN, HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.artifacts.tombstones import drop_rows, tombstoned_hashes
from tasks.curation.decision_table import count_equal_shingles
from tasks.ingestion.dedup import DedupResult, human_ids

SPLITS = ("human_train", "human_heldout")
REJECTED = "rejected_documents"
OUTPUTS = (*SPLITS, REJECTED)
"""Artifacts of a snapshot."""

_LIMIT_SETTING = {"human_train": "max_train_records", "human_heldout": "max_heldout_records"}
LONG_TEXT_CHARS = 2_000
"""A text of more characters, about 500 tokens, is more than small models read at once."""
_MAX_PART_ROWS, _MAX_PART_BYTES = 262_144, 64 << 20


class PartWriter:
    """Append rows to an artifact, and write a part whenever enough have been collected.

    Args:
        draft: Artifact to write; None counts rows and writes nothing.
        schema: Schema of the artifact.
    """

    def __init__(self, draft: Draft | None, schema: pa.Schema) -> None:
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        """Rows by the column `reason`, if the schema has one."""
        self.long_texts = 0
        """Rows with a text of more than `LONG_TEXT_CHARS` characters."""
        self.longest_text = 0
        """Characters of the longest text."""
        self.equal_shingles = 0
        """Near-duplicates with a similarity of 1."""
        self._draft, self._schema = draft, schema
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        self._next_part = 0
        self._executor = ThreadPoolExecutor(1)
        self._write: Future[None] | None = None
        if draft:
            for stale_part in draft.folder.glob("part-*"):
                stale_part.unlink()

    def append(self, table: pa.Table) -> None:
        """Add rows; write a part if enough are pending."""
        if "reason" in self._schema.names and table.num_rows:
            counts = table.group_by("reason").aggregate([([], "count_all")])
            self.reasons.update(dict(zip(counts["reason"].to_pylist(), counts["count_all"].to_pylist(), strict=True)))
            self.equal_shingles += count_equal_shingles(table)
        if "text" in self._schema.names and table.num_rows:
            lengths = pc.utf8_length(table["text"])
            self.long_texts += pc.sum(pc.greater(lengths, LONG_TEXT_CHARS)).as_py()
            self.longest_text = max(self.longest_text, pc.max(lengths).as_py())
        self.rows += table.num_rows
        self._pending.append(table)
        self._pending_rows += table.num_rows
        self._pending_bytes += table.nbytes
        if self._pending_rows >= _MAX_PART_ROWS or self._pending_bytes >= _MAX_PART_BYTES:
            self._write_part()

    def copy_from(self, folder: Path) -> None:
        """Append the rows of a finished artifact without erased texts; missing columns are filled with nulls."""
        erased = tombstoned_hashes(folder)
        for path in part_paths(folder):
            for batch in pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20).iter_batches():
                table = pa.Table.from_batches([batch])
                if "text_hash" in table.column_names:
                    table = drop_rows(table, erased)
                self.append(_conform(table, self._schema))

    def close(self) -> None:
        """Write the pending rows. An artifact has at least one part, which may be empty."""
        if self._pending_rows or not self._next_part:
            self._write_part()
        self._wait_for_write()
        self._executor.shutdown()

    def _wait_for_write(self) -> None:
        if self._write:
            self._write.result()

    def _write_part(self) -> None:
        if self._draft:
            table = pa.concat_tables(self._pending) if self._pending else self._schema.empty_table()
            self._wait_for_write()
            # Arrow compresses without the GIL, so the next rows are prepared meanwhile.
            self._write = self._executor.submit(self._draft.write_part, table, self._next_part)
        self._next_part += 1
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """Constraints on which split a record goes to."""

    settings: IngestSettings
    existing_groups: Mapping[str, Sequence[str]]
    """Groups of each split in the previous snapshot; they stay there."""
    capacity: Mapping[str, int | None]
    """Maximum number of new records of each split; None is unlimited."""
    erased_hashes: pa.Array
    """Text hashes with a tombstone: these texts must not be ingested again."""


def split_and_write(
    deduplicated: DedupResult,
    rules: SplitRules,
    writers: Mapping[str, PartWriter],
    report: Callable[[int, int], None],
) -> None:
    """Write each record to its split, and duplicates, erased records and records beyond the capacity to `REJECTED`.

    Args:
        deduplicated: Records with marked duplicates, which are removed here.
        rules: Constraints on the splits.
        writers: A writer for each of `OUTPUTS`.
        report: Progress callback (partition spans done, total).
    """
    rejected = writers[REJECTED]
    remaining = dict(rules.capacity)
    spans = deduplicated.records.spans_in_memory()
    for number, partitions in enumerate(spans, 1):
        partition = deduplicated.remove_duplicates(partitions)
        records = partition.kept
        is_erased = pc.is_in(records["text_hash"], value_set=rules.erased_hashes)
        rejected.append(_rejected_records(records.filter(is_erased), "erase", "erased text"))
        records = records.filter(pc.invert(is_erased))
        by_hash = pc.sort_indices(records["text_hash"])
        is_heldout = _is_heldout(records, rules.existing_groups).take(by_hash)
        for split, mask in (("human_train", pc.invert(is_heldout)), ("human_heldout", is_heldout)):
            rows = records.take(by_hash.filter(mask.combine_chunks()))
            num_accepted = rows.num_rows
            capacity = remaining[split]
            if capacity is not None:
                num_accepted = min(num_accepted, capacity)
                remaining[split] = capacity - num_accepted
            writers[split].append(_human_records(rows.slice(0, num_accepted), rules.settings))
            limit_reason = f"`{_LIMIT_SETTING[split]}` reached"
            rejected.append(_rejected_records(rows.slice(num_accepted), "limit", limit_reason))
        rejected.append(partition.rejected)
        report(number, len(spans))


def existing_split_by_group(previous_snapshot: Mapping[str, Path], settings: IngestSettings) -> dict[str, list[str]]:
    """Return the groups of each split in the previous snapshot, if groups are sources; else no groups."""
    if settings.split_by != "source" or not previous_snapshot:
        return {split: [] for split in SPLITS}
    return {split: sorted(set(_groups(folder))) for split, folder in previous_snapshot.items()}


def _groups(folder: Path) -> Iterator[str]:
    for path in part_paths(folder):
        for batch in pq.ParquetFile(path).iter_batches(columns=["split_group"]):
            yield from pc.unique(batch.column(0)).to_pylist()


def _is_heldout(records: pa.Table, existing_groups: Mapping[str, Sequence[str]]) -> pa.ChunkedArray:
    """A group of the previous snapshot stays in its split, even if `heldout_fraction` has changed since."""
    is_heldout = records["is_heldout"]
    for split in SPLITS:
        if existing_groups[split]:
            is_existing = pc.is_in(records["source"], value_set=pa.array(existing_groups[split], pa.string()))
            is_heldout = pc.if_else(is_existing, split == "human_heldout", is_heldout)
    return is_heldout


def _human_records(rows: pa.Table, settings: IngestSettings) -> pa.Table:
    return pa.table(
        {
            "id": human_ids(rows["text_hash"]),
            "text": rows["text"],
            "origin": pa.repeat(HUMAN, rows.num_rows),
            "source_generation": pa.array(np.zeros(rows.num_rows, np.int32)),
            "source": rows["source"],
            "split_group": rows["source" if settings.split_by == "source" else "text_hash"],
            "license": rows["license"],
            "text_hash": rows["text_hash"],
            "document_id": rows["document_id"],
            "messages": rows["messages"],
            "tools": rows["tools"],
            "checks": rows["checks"],
        },
        schema=HUMAN_RECORDS,
    )


def _rejected_records(rows: pa.Table, filter_name: str, reason: str) -> pa.Table:
    table = pa.table(
        {
            "id": human_ids(rows["text_hash"]),
            "source": rows["source"],
            "row_number": rows["row_number"],
            "filter": pa.repeat(filter_name, rows.num_rows),
            "reason": pa.repeat(reason, rows.num_rows),
            "document_id": rows["document_id"],
        }
    )
    return _conform(table, REJECTED_DOCUMENTS)


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast the columns to a schema; columns that the table lacks are null."""
    columns = []
    for field in schema:
        if field.name in table.column_names:
            columns.append(table[field.name].cast(field.type))
        else:
            columns.append(pa.nulls(len(table), field.type))
    return pa.table(columns, schema=schema)
