"""The candidates that every sieve kept: candidates less those with a decision against them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifact import read_table


def read_survivors(candidates: Path, decisions: Path) -> pa.Table:
    """Rows of `candidates` that no decision dropped, in their order."""
    table = read_table(candidates)
    dropped = dropped_ids(read_table(decisions, ["id", "kept"]))
    return table.filter(pc.invert(pc.is_in(table["id"], value_set=dropped)))


def dropped_ids(decisions: pa.Table) -> pa.Array:
    """Ids that some decision of the table is against, each once: no sieve sees what another has dropped."""
    return decisions.filter(pc.invert(decisions["kept"]))["id"].combine_chunks()
