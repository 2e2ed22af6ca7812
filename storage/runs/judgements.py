"""Judgements of single candidates by reviewers: an append-only file of a run, `judgements.jsonl`."""

import fcntl
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from storage.artifacts.parquet_io import DamagedError
from storage.remote import mirror
from storage.remote.lease import lease
from storage.runs.run import Run

Verdict = Literal["accept", "reject"]
JUDGEMENTS_FILE = "judgements.jsonl"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Verdict of one reviewer on one candidate; a later one of the same reviewer replaces it."""

    generation: int
    attempt: int
    id: str
    verdict: Verdict
    reviewer: str
    reason: str = ""
    time: float
    """Seconds since 1970."""


def append_judgements(run: Run, judgements: Sequence[Judgement]) -> None:
    """Append judgements, all or none; they are durable when this returns.

    Another process may write the run or its judgements at the same time: writers of this file wait for each other.

    Raises:
        LeaseHeldError: the store is mirrored, and another machine is writing judgements.
    """
    if not judgements:
        return
    path, lock_path = run.folder / JUDGEMENTS_FILE, run.folder / ".judgements.lock"
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    with lock_path.open("a") as lock:
        # Freed when the file is closed, also if the process is killed.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with lease(lock_path, holder):
            content = mirror.read_latest(path)
            lines = "".join(json.dumps(asdict(judgement)) + "\n" for judgement in judgements)
            mirror.write_small(path, content + lines.encode())


def read_judgements(folder: Path) -> list[Judgement]:
    """Return every judgement in the folder of a run, oldest first.

    Raises:
        DamagedError: a line is not a judgement.
    """
    path = folder / JUDGEMENTS_FILE
    judgements = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            row = json.loads(line)
            judgements.append(Judgement(**{field.name: row[field.name] for field in fields(Judgement)}))
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"Line {number} of {path} is no judgement. Restore the file from a backup.") from error
    return judgements


def newest_by_reviewer(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Return the newest judgement of each reviewer about each candidate, oldest first."""
    newest = {(entry.generation, entry.attempt, entry.id, entry.reviewer): entry for entry in judgements}
    return [entry for entry in judgements if entry is newest[entry.generation, entry.attempt, entry.id, entry.reviewer]]
