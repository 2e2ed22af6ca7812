"""Find duplicates among ingested records, and remove them.

The earlier record is kept, whether it is a training or a held-out record. Thus no record that nearly duplicates a
held-out record enters the training set, nor the reverse, within one ingest or over several. Two steps:

1. `find_duplicates` marks: it writes one row of `DUPLICATE_SCHEMA` for each duplicate to a scratch table.
2. `DedupResult.remove_duplicates` removes: it reads some partitions of the records, and separates the marked ones.
   `split.split_and_write` calls it, publishes the kept records and lists the others in `rejected_documents`.

Exact duplicates are found one partition of keys at a time. The near-duplicate search has all new texts in memory, and
those earlier records that share an LSH band with them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.decisions import DuplicateMatches
from curation.dedup.exact import find_repeated_keys
from curation.dedup.minhash import MinHashSettings, find_near_duplicates, find_near_duplicates_indexed
from curation.splitting import DedupSettings
from storage.artifacts.artifact import part_paths, read_table
from storage.artifacts.ids import HUMAN_ID_PREFIX
from storage.artifacts.parquet_io import read_parquet
from storage.artifacts.schemas import REJECTED_DOCUMENTS
from storage.index.partitioned_scratch import PartitionedScratch
from tasks.curation.dedup_index import StoredIndex, build_temporary_index
from tasks.ingestion.read import NUM_RECORD_PARTITIONS, ScratchTables, Uint64s

DUPLICATE_SCHEMA = pa.schema(
    [
        ("order", pa.uint64()),
        ("text_hash_prefix", pa.uint64()),
        ("duplicate_of", pa.uint64()),
        ("filter", pa.string()),
        ("score", pa.float64()),
    ]
)
"""A duplicate, by its `order`. `duplicate_of` is the `text_hash_prefix` of the record that is kept instead."""

EXACT_REASON = "exact duplicate"
_REASONS = {"exact": EXACT_REASON, "minhash": "near-duplicate"}
_PROVENANCE_COLUMNS = ("order", "text_hash", "source", "row_number", "document_id")
# Records are partitioned by the first 7 bits of their hash, and so are duplicates.
_PARTITION_SHIFT = np.uint64(64 - (NUM_RECORD_PARTITIONS - 1).bit_length())


@dataclass(frozen=True, kw_only=True)
class PartitionWithoutDuplicates:
    """Records of some partitions, with the duplicates removed."""

    kept: pa.Table
    rejected: pa.Table
    """The duplicates, as `REJECTED_DOCUMENTS`."""


@dataclass(frozen=True, kw_only=True)
class DedupResult:
    """New records on disk, and tables that mark the duplicates among them."""

    records: PartitionedScratch
    duplicates: tuple[PartitionedScratch, ...] = ()

    def remove_duplicates(self, partitions: range, columns: Sequence[str] | None = None) -> PartitionWithoutDuplicates:
        """Read some partitions of the records, and separate kept records from duplicates.

        Args:
            partitions: Partitions to read.
            columns: Columns of the kept records, `order` among them; default: all.
        """
        records = self.records.read(partitions, columns)
        marked = pa.concat_tables(
            [DUPLICATE_SCHEMA.empty_table(), *(table.read(partitions) for table in self.duplicates)]
        )
        if not marked.num_rows:
            return PartitionWithoutDuplicates(kept=records, rejected=REJECTED_DOCUMENTS.empty_table())
        is_duplicate = np.isin(records["order"].to_numpy(), marked["order"].to_numpy())
        return PartitionWithoutDuplicates(
            kept=records.filter(pa.array(~is_duplicate)),
            rejected=_rejected_duplicates(self.records.read(partitions, _PROVENANCE_COLUMNS), marked),
        )


def find_duplicates(
    scratch: ScratchTables,
    first_new_order: int,
    previous_snapshot: Sequence[Path],
    settings: DedupSettings,
    folder: Path,
) -> DedupResult:
    """Mark the new records that duplicate an earlier one.

    Args:
        scratch: New records, and the keys of new and previous records.
        first_new_order: Keys with a smaller `order` belong to records of the previous snapshot.
        previous_snapshot: Artifacts with those records.
        settings: Search method.
        folder: Scratch folder for the marks.
    """
    exact = _find_exact(scratch.keys, first_new_order, folder / "exact_duplicates")
    without_exact = DedupResult(records=scratch.records, duplicates=(exact,))
    if settings.method == "exact":
        return without_exact
    near = _find_near(without_exact, previous_snapshot, settings.minhash, folder)
    return DedupResult(records=scratch.records, duplicates=(exact, near))


def human_ids(text_hashes: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the ids of the human records with these text hashes."""
    return pc.binary_join_element_wise(HUMAN_ID_PREFIX, pc.utf8_slice_codeunits(text_hashes, 0, 16), "")


def _rejected_duplicates(records: pa.Table, marked: pa.Table) -> pa.Table:
    rows = records.take(pa.array(_positions(records["order"].to_numpy(), marked["order"].to_numpy())))
    return pa.table(
        {
            "id": human_ids(rows["text_hash"]),
            "source": rows["source"],
            "row_number": rows["row_number"],
            "filter": marked["filter"],
            "reason": [_REASONS[name] for name in marked["filter"].to_pylist()],
            "duplicate_of": [f"{HUMAN_ID_PREFIX}{prefix:016x}" for prefix in marked["duplicate_of"].to_pylist()],
            "score": marked["score"],
            "document_id": rows["document_id"],
        },
        schema=REJECTED_DOCUMENTS,
    )


def _find_exact(keys_table: PartitionedScratch, first_new_order: int, folder: Path) -> PartitionedScratch:
    duplicates = PartitionedScratch(folder, DUPLICATE_SCHEMA, NUM_RECORD_PARTITIONS)
    for block, partitions in enumerate(keys_table.spans_in_memory()):
        keys = keys_table.read(partitions)
        order, hash_prefix = keys["order"].to_numpy(), keys["text_hash_prefix"].to_numpy()
        rows, first_rows = find_repeated_keys(keys["high"].to_numpy(), keys["low"].to_numpy(), order)
        is_new = order[rows] >= first_new_order
        rows, first_rows = rows[is_new], first_rows[is_new]
        marked = _duplicate_table("exact", order[rows], hash_prefix[rows], hash_prefix[first_rows], np.ones(len(rows)))
        _write_by_partition(duplicates, block, marked)
    return duplicates


def _find_near(
    without_exact: DedupResult, previous_snapshot: Sequence[Path], settings: MinHashSettings, folder: Path
) -> PartitionedScratch:
    records = pa.concat_tables(
        [
            without_exact.remove_duplicates(partitions, ["order", "text_hash", "text"]).kept
            for partitions in without_exact.records.spans_in_memory()
        ]
    ).sort_by("order")
    matches, previous_ids = _match_near(records["text"].to_pylist(), previous_snapshot, settings, folder)
    previous_prefixes = [int(record_id.removeprefix(HUMAN_ID_PREFIX), 16) for record_id in previous_ids]
    new_prefixes = [int(text_hash[:16], 16) for text_hash in records["text_hash"].to_pylist()]
    # `duplicate_of` counts the previous records first, then the new ones.
    prefixes = np.array(previous_prefixes + new_prefixes, np.uint64)
    rows = np.flatnonzero(~matches.kept)
    marked = _duplicate_table(
        "minhash",
        records["order"].to_numpy()[rows],
        prefixes[len(previous_ids) + rows],
        prefixes[matches.duplicate_of[rows]],
        matches.similarity[rows],
    )
    duplicates = PartitionedScratch(folder / "near_duplicates", DUPLICATE_SCHEMA, NUM_RECORD_PARTITIONS)
    _write_by_partition(duplicates, 0, marked)
    return duplicates


def _match_near(
    texts: list[str], previous_snapshot: Sequence[Path], settings: MinHashSettings, folder: Path
) -> tuple[DuplicateMatches, list[str]]:
    """Return near-duplicate matches, and the ids of the previous records that their rows count first."""
    if settings.max_shingle_document_frequency is None:
        index = _build_index(previous_snapshot, settings, folder / "previous_snapshot")
        previous, matches = find_near_duplicates_indexed(texts, index.candidates, settings)
        return matches, list(previous.ids)
    # The document frequency of a shingle depends on all texts together, so an index of some of them is of no use.
    tables = [read_table(artifact, ["id", "text"]) for artifact in previous_snapshot]
    previous_ids = [record_id for table in tables for record_id in table["id"].to_pylist()]
    previous_texts = [text for table in tables for text in table["text"].to_pylist()]
    return find_near_duplicates(texts, previous_texts, settings), previous_ids


def _build_index(previous_snapshot: Sequence[Path], settings: MinHashSettings, folder: Path) -> StoredIndex:
    """Sketch the previous records, one part at a time."""

    def read_parts() -> Iterator[pa.Table]:
        for artifact in previous_snapshot:
            for path in part_paths(artifact):
                yield read_parquet(path, ["id", "text_hash", "source_generation", "text"])

    return StoredIndex(files=build_temporary_index(folder, read_parts(), settings))


def _duplicate_table(
    filter_name: str, order: Uint64s, hash_prefix: Uint64s, duplicate_of: Uint64s, score: NDArray[np.float64]
) -> pa.Table:
    return pa.table(
        {
            "order": order,
            "text_hash_prefix": hash_prefix,
            "duplicate_of": duplicate_of,
            "filter": [filter_name] * len(order),
            "score": score,
        },
        schema=DUPLICATE_SCHEMA,
    )


def _write_by_partition(table: PartitionedScratch, block: int, duplicates: pa.Table) -> None:
    partitions = duplicates["text_hash_prefix"].to_numpy() >> _PARTITION_SHIFT
    table.write(block, duplicates, partitions.astype(np.int64))


def _positions(values: Uint64s, wanted: Uint64s) -> NDArray[np.int64]:
    """Return the position in `values` of each wanted value."""
    ascending = np.argsort(values)
    return ascending[np.searchsorted(values[ascending], wanted)]
