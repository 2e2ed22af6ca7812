"""Seals: digests by which a loss or an edit of a store's small files shows. There are no keys.

- Each journal entry has the digest of the entry before it, and an entry `configured` has that of `run.json`.
- Each manifest has the digest of the newest journal entry, and the length and digest of the tombstones, when it was
  written.
- The tombstones have a file of their own with their length and digest, since no artifact may be written after them.

A person who can write the whole store can also write every seal again. Seals show damage and careless edits, not
forgery of the whole. `heirloom verify` checks them.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from typing_extensions import TypedDict

from storage.files import FileInfo

JOURNAL = "journal.jsonl"
TOMBSTONES_FILE = "tombstones.jsonl"


class Seals(TypedDict):
    """State of the small files of a store when an artifact was published."""

    journal: str
    """Digest of the newest entry of the run's journal; empty for artifacts of datasets and of an empty journal."""
    tombstones: FileInfo | None
    """Length and digest of the tombstones; None if there were none."""


def seals_of(artifact: Path) -> Seals:
    """Return the seals for an artifact that is being published to this folder."""
    journal = b""
    if artifact.parent.name.startswith("attempt=") and (path := artifact.parents[2] / JOURNAL).exists():
        journal = path.read_bytes()
    paths = [store / TOMBSTONES_FILE for store in possible_stores(artifact)]
    tombstones = next((content_info(path.read_bytes()) for path in paths if path.exists()), None)
    return {"journal": newest_digest(journal), "tombstones": tombstones}


def possible_stores(artifact: Path) -> Sequence[Path]:
    """Return the folders that can be the store: four levels above an artifact of a dataset, five above one of a run."""
    return artifact.absolute().parents[3:5]


def newest_digest(journal: bytes) -> str:
    """Return the digest of the last entry of a journal; an empty string if there is none."""
    return next((line_digest(line) for line in reversed(journal.split(b"\n")) if is_chained(line)), "")


def is_chained(line: bytes) -> bool:
    """Return whether a journal line is part of the chain; one that a crash truncated is not."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and isinstance(entry.get("previous"), str)


def line_digest(line: bytes) -> str:
    """Return the digest of a journal line, without its line break."""
    return hashlib.sha256(line).hexdigest()


def content_info(content: bytes) -> FileInfo:
    """Return length and digest of a content."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def begins_with(content: bytes, sealed: FileInfo) -> bool:
    """Return whether a content still begins with the sealed one; files with seals only grow."""
    return content_info(content[: sealed["bytes"]]) == sealed
