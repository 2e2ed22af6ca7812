"""Convert filter decisions to the Arrow table that is stored."""

from collections.abc import Sequence

import pyarrow as pa

from curation.decisions import Decision
from storage.artifacts.schemas import DECISIONS

KEPT_SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("source", pa.string()), ("row_number", pa.int64())]
)
"""A text that every sieve kept, and where it stands: row `row_number`, from 0, of the file `source`."""


_OF_A_RUN = {"perplexity": "log-probabilities", "best_of": "several answers to a prompt"}


def as_decisions(made: Sequence[Decision]) -> pa.Table:
    """One sieve's decisions as they are stored.

    Dropped first: a question about what was dropped skips every row group that holds kept records alone.
    """
    rows = sorted(made, key=lambda decision: decision.kept)
    return pa.table({name: [getattr(one, name) for one in rows] for name in DECISIONS.names}, schema=DECISIONS)
