"""The stored form of filter decisions, and the schema of the texts that `heirloom curate` keeps."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.schemas import DECISIONS

KEPT_SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("source", pa.string()), ("row_number", pa.int64())]
)
"""A text that every filter kept, and its location: row `row_number`, from 0, of the file `source`."""


def to_stored_decisions(decisions: pa.Table) -> pa.Table:
    """Sort the decisions of one filter for storage and cast them to the stored schema.

    Dropped records come first, each half in the order of the records: a query for what was dropped then skips every
    row group that holds kept records alone.
    """
    order = np.argsort(decisions["kept"].to_numpy(), kind="stable")
    return decisions.select(DECISIONS.names).take(order).cast(DECISIONS)


def count_equal_shingles(decisions: pa.Table) -> int:
    """Return the number of near-duplicates with a similarity of 1: they differ in what normalization ignores."""
    is_equal = pc.and_(pc.equal(decisions["filter"], "minhash"), pc.equal(decisions["score"], 1.0))
    return int(pc.sum(is_equal).as_py() or 0)
