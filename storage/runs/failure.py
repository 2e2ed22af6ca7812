"""The error that ended the last work on a run, in `failure.json` of the run, until work on the run begins again.

It is no part of the journal: a failure decides nothing, and the run resumes as if it had been killed.
"""

import contextlib
import json
import time
from dataclasses import dataclass

from storage.remote import mirror
from storage.runs.run import Run

FAILURE_LOG = "failures.log"
"""File in the folder `logs` of a store, for tracebacks."""
_FILE = "failure.json"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The error, as one sentence, and its time in seconds since 1970."""

    reason: str
    time: float


def record_failure(run: Run, reason: str) -> None:
    """Store why the work on a run ended; do nothing if that cannot be written, as on a full disk."""
    with contextlib.suppress(OSError):
        mirror.write_small(run.folder / _FILE, json.dumps({"reason": reason, "time": time.time()}).encode())


def clear_failure(run: Run) -> None:
    """Forget the last failure, since work on the run begins."""
    if last_failure(run):
        mirror.write_small(run.folder / _FILE, b"{}")


def last_failure(run: Run) -> Failure | None:
    """Return the failure that ended the last work on a run; None if it ended otherwise, or works."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((run.folder / _FILE).read_text())
        return Failure(reason=str(content["reason"]), time=float(content["time"]))
    return None
