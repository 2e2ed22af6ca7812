"""The candidates that every sieve kept: candidates less those with a decision against them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifact import read_table


def read_survivors(candidates: Path, decisions: Path) -> pa.Table:
    """Rows of `candidates` that no decision dropped, in their order."""
    said = read_table(decisions, ["id", "kept"])
    dropped = said.filter(pc.invert(said["kept"]))["id"]
    table = read_table(candidates)
    return table.filter(pc.invert(pc.is_in(table["id"], value_set=dropped.combine_chunks())))
