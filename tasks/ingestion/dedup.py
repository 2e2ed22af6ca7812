"""Which records repeat another one: the earlier stays, whichever side it is on, and a newcomer goes.

So no record that nearly repeats a held-out one enters the reserve, nor the other way round, in one ingest or
over many. Exact duplicates are found a bucket of keys at a time; near-duplicates with the texts of newcomers in memory, and of
earlier records with what is close to them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.dedup.exact import find_repeated_keys
from curation.dedup.minhash import find_near_duplicates, find_near_duplicates_indexed
from curation.splitting import IngestSettings
from storage.artifacts.artifact import part_paths, read_table
from storage.artifacts.ids import HUMAN_ID_PREFIX
from storage.artifacts.parquet_io import read_parquet
from storage.artifacts.schemas import REJECTED_DOCUMENTS
from storage.index.partitioned_scratch import PartitionedScratch
from tasks.curation.dedup_index import StoredIndex, build_temporary_index
from tasks.ingestion.read import BUCKETS, ScratchTables

_REPEATS = pa.schema(
    [("order", pa.uint64()), ("duplicate_of", pa.uint64()), ("filter", pa.string()), ("score", pa.float64())]
)
Orders: TypeAlias = NDArray[np.uint64]
_ASIDE = ("order", "text_hash", "source", "row_number", "document_id")
_REASONS = {"exact": "says the same", "minhash": "says nearly the same"}


@dataclass(frozen=True)
class DedupResult:
    """The records that came in, less those that repeat another one."""

    records: PartitionedScratch
    duplicates: tuple[PartitionedScratch, ...] = ()

    def partition(self, span: range, columns: Sequence[str] | None = None) -> tuple[pa.Table, pa.Table]:
        """The records of some buckets that stay, columns as asked and `order` among them; and those that go, as set aside."""
        table = self.records.read(span, columns)
        told = pa.concat_tables([_REPEATS.empty_table(), *(repeats.read(span) for repeats in self.duplicates)])
        if not told.num_rows:
            return table, REJECTED_DOCUMENTS.empty_table()
        gone = np.isin(table["order"].to_numpy(), told["order"].to_numpy())
        return table.filter(pa.array(~gone)), _set_aside(self.records.read(span, _ASIDE), told)


def find_duplicates(
    spills: ScratchTables,
    first_new_order: int,
    previous_snapshot: Sequence[Path],
    settings: IngestSettings,
    folder: Path,
) -> DedupResult:
    """Exact duplicates, and near ones if asked; records before order `first_new_order` are those of earlier snapshots.

    `previous_snapshot` are the artifacts of these records.
    """
    found = DedupResult(spills.records, (_exact(spills.keys, first_new_order, folder / "exact"),))
    if settings.repeats == "exact":
        return found
    return DedupResult(spills.records, (*found.duplicates, _near(found, previous_snapshot, settings, folder)))


def _set_aside(records: pa.Table, told: pa.Table) -> pa.Table:
    rows = records.take(pa.array(_places(records["order"].to_numpy(), told["order"].to_numpy())))
    return pa.table(
        {
            "id": human_ids(rows["text_hash"]),
            "source": rows["source"],
            "row_number": rows["row_number"],
            "filter": told["filter"],
            "reason": [_REASONS[stage] for stage in told["filter"].to_pylist()],
            "duplicate_of": [f"{HUMAN_ID_PREFIX}{keeper:016x}" for keeper in told["duplicate_of"].to_pylist()],
            "score": told["score"],
            "document_id": rows["document_id"],
        },
        schema=REJECTED_DOCUMENTS,
    )


def human_ids(digests: pa.ChunkedArray) -> pa.ChunkedArray:
    """The ids of human records with these digests."""
    return pc.binary_join_element_wise(HUMAN_ID_PREFIX, pc.utf8_slice_codeunits(digests, 0, 16), "")


def _exact(keys: PartitionedScratch, first_new_order: int, folder: Path) -> PartitionedScratch:
    spill = PartitionedScratch(folder, _REPEATS, BUCKETS)
    for number, span in enumerate(keys.spans_in_memory()):
        table = keys.read(span)
        high, low, order, identity = (table[name].to_numpy() for name in ("high", "low", "order", "identity"))
        rows, keepers = find_repeated_keys(high, low, order)
        new = order[rows] >= first_new_order
        rows, keepers = rows[new], keepers[new]
        _write(spill, number, "exact", order[rows], identity[rows], identity[keepers], np.ones(len(rows)))
    return spill


def _near(
    found: DedupResult, previous_snapshot: Sequence[Path], settings: IngestSettings, folder: Path
) -> PartitionedScratch:
    tables = [found.partition(span, ["order", "text_hash", "text"])[0] for span in found.records.spans_in_memory()]
    table = pa.concat_tables(tables).sort_by("order")
    texts, likeness = table["text"].to_pylist(), settings.near_duplicates
    if likeness.max_shingle_document_frequency is None:
        known, answer = find_near_duplicates_indexed(
            texts, _indexed(previous_snapshot, settings, folder / "previous_snapshot").candidates, likeness
        )
        ids = known.ids
    else:
        # Which shingles are common is a matter of all texts together.
        whole = [read_table(place, ["id", "text"]) for place in previous_snapshot]
        ids = [identity for one in whole for identity in one["id"].to_pylist()]
        answer = find_near_duplicates(texts, [text for one in whole for text in one["text"].to_pylist()], likeness)
    everyone = np.array(
        [int(one[len(HUMAN_ID_PREFIX) :], 16) for one in ids]
        + [int(one[:16], 16) for one in table["text_hash"].to_pylist()],
        np.uint64,
    )
    rows = np.flatnonzero(~answer.kept)
    spill = PartitionedScratch(folder / "near", _REPEATS, BUCKETS)
    order = table["order"].to_numpy()[rows]
    _write(
        spill,
        0,
        "minhash",
        order,
        everyone[len(ids) + rows],
        everyone[answer.duplicate_of[rows]],
        answer.similarity[rows],
    )
    return spill


def _indexed(previous_snapshot: Sequence[Path], settings: IngestSettings, folder: Path) -> StoredIndex:
    """Earlier records by their sketches, made a part at a time."""

    def read() -> Iterator[pa.Table]:
        for place in previous_snapshot:
            yield from (
                read_parquet(part, ["id", "text_hash", "source_generation", "text"]) for part in part_paths(place)
            )

    return StoredIndex(files=build_temporary_index(folder, read(), settings.near_duplicates))


def _write(
    spill: PartitionedScratch,
    block: int,
    stage: str,
    order: Orders,
    identity: Orders,
    keeper: Orders,
    evidence: NDArray[np.float64],
) -> None:
    table = pa.table([order, keeper, [stage] * len(order), evidence], schema=_REPEATS)
    spill.write(block, table, (identity >> np.uint64(57)).astype(np.int64))


def _places(order: Orders, asked: Orders) -> NDArray[np.int64]:
    rows = np.argsort(order)
    return rows[np.searchsorted(order[rows], asked)]
