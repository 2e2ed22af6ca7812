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
from curation.dedup.minhash import find_near_duplicates, find_near_sketched
from curation.splitting import IngestSettings
from storage.artifacts.artifact import parts, read_table
from storage.artifacts.ids import HUMAN_ID
from storage.artifacts.parquet_io import read_parquet
from storage.artifacts.schemas import SET_ASIDE
from storage.index.partitioned_scratch import Spill
from tasks.curation.dedup_index import Indexed, sketched_once
from tasks.ingestion.read import BUCKETS, Spills

_REPEATS = pa.schema(
    [("order", pa.uint64()), ("keeper", pa.uint64()), ("stage", pa.string()), ("evidence", pa.float64())]
)
Orders: TypeAlias = NDArray[np.uint64]
_ASIDE = ("order", "digest", "source", "place", "document")
_REASONS = {"exact": "says the same", "minhash": "says nearly the same"}


@dataclass(frozen=True)
class Found:
    """The records that came in, less those that repeat another one."""

    records: Spill
    repeats: tuple[Spill, ...] = ()

    def parted(self, span: range, columns: Sequence[str] | None = None) -> tuple[pa.Table, pa.Table]:
        """The records of some buckets that stay, columns as asked and `order` among them; and those that go, as set aside."""
        table = self.records.read(span, columns)
        told = pa.concat_tables([_REPEATS.empty_table(), *(repeats.read(span) for repeats in self.repeats)])
        if not told.num_rows:
            return table, SET_ASIDE.empty_table()
        gone = np.isin(table["order"].to_numpy(), told["order"].to_numpy())
        return table.filter(pa.array(~gone)), _set_aside(self.records.read(span, _ASIDE), told)


def find_repeats(
    spills: Spills, newcomers: int, former: Sequence[Path], settings: IngestSettings, folder: Path
) -> Found:
    """Exact duplicates, and near ones if asked; records before order `newcomers` are those of earlier snapshots.

    `former` are the artifacts of these records.
    """
    found = Found(spills.found, (_exact(spills.keys, newcomers, folder / "exact"),))
    if settings.repeats == "exact":
        return found
    return Found(spills.found, (*found.repeats, _near(found, former, settings, folder)))


def _set_aside(records: pa.Table, told: pa.Table) -> pa.Table:
    rows = records.take(pa.array(_places(records["order"].to_numpy(), told["order"].to_numpy())))
    return pa.table(
        {
            "id": ids(rows["digest"]),
            "source": rows["source"],
            "place": rows["place"],
            "stage": told["stage"],
            "reason": [_REASONS[stage] for stage in told["stage"].to_pylist()],
            "keeper": [f"{HUMAN_ID}{keeper:016x}" for keeper in told["keeper"].to_pylist()],
            "evidence": told["evidence"],
            "document": rows["document"],
        },
        schema=SET_ASIDE,
    )


def ids(digests: pa.ChunkedArray) -> pa.ChunkedArray:
    """The ids of human records with these digests."""
    return pc.binary_join_element_wise(HUMAN_ID, pc.utf8_slice_codeunits(digests, 0, 16), "")


def _exact(keys: Spill, newcomers: int, folder: Path) -> Spill:
    spill = Spill(folder, _REPEATS, BUCKETS)
    for number, span in enumerate(keys.spans()):
        table = keys.read(span)
        high, low, order, identity = (table[name].to_numpy() for name in ("high", "low", "order", "identity"))
        rows, keepers = find_repeated_keys(high, low, order)
        new = order[rows] >= newcomers
        rows, keepers = rows[new], keepers[new]
        _write(spill, number, "exact", order[rows], identity[rows], identity[keepers], np.ones(len(rows)))
    return spill


def _near(found: Found, former: Sequence[Path], settings: IngestSettings, folder: Path) -> Spill:
    tables = [found.parted(span, ["order", "digest", "text"])[0] for span in found.records.spans()]
    table = pa.concat_tables(tables).sort_by("order")
    texts, likeness = table["text"].to_pylist(), settings.near_duplicates
    if likeness.mask_common is None:
        known, answer = find_near_sketched(texts, _indexed(former, settings, folder / "former").near, likeness)
        ids = known.ids
    else:
        # Which shingles are common is a matter of all texts together.
        whole = [read_table(place, ["id", "text"]) for place in former]
        ids = [identity for one in whole for identity in one["id"].to_pylist()]
        answer = find_near_duplicates(texts, [text for one in whole for text in one["text"].to_pylist()], likeness)
    everyone = np.array(
        [int(one[len(HUMAN_ID) :], 16) for one in ids] + [int(one[:16], 16) for one in table["digest"].to_pylist()],
        np.uint64,
    )
    rows = np.flatnonzero(~answer.kept)
    spill = Spill(folder / "near", _REPEATS, BUCKETS)
    order = table["order"].to_numpy()[rows]
    _write(
        spill, 0, "minhash", order, everyone[len(ids) + rows], everyone[answer.keeper[rows]], answer.similarity[rows]
    )
    return spill


def _indexed(former: Sequence[Path], settings: IngestSettings, folder: Path) -> Indexed:
    """Earlier records by their sketches, made a part at a time."""

    def read() -> Iterator[pa.Table]:
        for place in former:
            yield from (read_parquet(part, ["id", "digest", "born", "text"]) for part in parts(place))

    return Indexed(files=sketched_once(folder, read(), settings.near_duplicates))


def _write(
    spill: Spill, block: int, stage: str, order: Orders, identity: Orders, keeper: Orders, evidence: NDArray[np.float64]
) -> None:
    table = pa.table([order, keeper, [stage] * len(order), evidence], schema=_REPEATS)
    spill.write(block, table, (identity >> np.uint64(57)).astype(np.int64))


def _places(order: Orders, asked: Orders) -> NDArray[np.int64]:
    rows = np.argsort(order)
    return rows[np.searchsorted(order[rows], asked)]
