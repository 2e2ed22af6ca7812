"""Survivors: records that no filter decision dropped."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.artifact import read_table


def read_survivors(candidates: Path, decisions: Path) -> pa.Table:
    """Return the rows of `candidates` that no decision dropped, in order."""
    return without_dropped(read_table(candidates), decisions)


def without_dropped(table: pa.Table, decisions: Path) -> pa.Table:
    """Return the rows of `table` that no decision dropped, in order."""
    dropped = dropped_ids(read_table(decisions, ["id", "kept"]))
    return table.filter(pc.invert(pc.is_in(table["id"], value_set=dropped)))


def dropped_ids(decisions: pa.Table) -> pa.Array:
    """Return the ids of dropped records, each once, since a filter does not see records that another one dropped."""
    return decisions.filter(pc.invert(decisions["kept"]))["id"].combine_chunks()
