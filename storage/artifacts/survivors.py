"""The records that stay: candidates, or a reserve, less those with a decision against them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.artifact import read_table


def read_survivors(candidates: Path, decisions: Path) -> pa.Table:
    """Rows of `candidates` that no decision dropped, in their order."""
    return without_dropped(read_table(candidates), decisions)


def without_dropped(table: pa.Table, decisions: Path) -> pa.Table:
    """Rows of `table` that no decision dropped, in their order."""
    dropped = dropped_ids(read_table(decisions, ["id", "kept"]))
    return table.filter(pc.invert(pc.is_in(table["id"], value_set=dropped)))


def dropped_ids(decisions: pa.Table) -> pa.Array:
    """Ids that some decision of the table is against, each once: no sieve sees what another has dropped."""
    return decisions.filter(pc.invert(decisions["kept"]))["id"].combine_chunks()
