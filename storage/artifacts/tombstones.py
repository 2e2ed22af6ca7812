"""Tombstones: hashes of erased texts, which no later corpus, prompt or view may contain.

<root>/tombstones.jsonl    one line per text: the id it was erased by, its hash, time and reason

The hash is kept when the text is gone, so that the same text cannot come back under another id.
"""

import fcntl
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.parquet_io import DamagedError
from storage.files import write_atomically

TOMBSTONES_FILE = "tombstones.jsonl"

TOMBSTONES = pa.schema(
    [("id", pa.string()), ("text_hash", pa.string()), ("time", pa.float64()), ("reason", pa.string())]
)
"""An erased text."""


@dataclass(frozen=True)
class Tombstone:
    """One erased text."""

    id: str
    text_hash: str
    time: float
    reason: str


def read_tombstones(root: Path) -> list[Tombstone]:
    """Return every tombstone of a store, oldest first.

    Raises:
        DamagedError: the file cannot be read. Then no table may be read, since erased texts could come back.
    """
    path = root / TOMBSTONES_FILE
    if not path.exists():
        return []
    try:
        return [Tombstone(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise DamagedError(
            f"{path} is damaged ({error}). It lists the texts that must not be used: restore it from a backup."
        ) from error


def add_tombstones(root: Path, text_hashes: Mapping[str, str], reason: str) -> None:
    """Add a tombstone for every hash (values of `text_hashes`, by id) that has none, in one atomic write."""
    # A separate lock file, since the locked file must not be the one that is replaced.
    with (root / ".tombstones.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tombstones = read_tombstones(root)
        known = {tombstone.text_hash for tombstone in tombstones}
        new = {text_hash: record_id for record_id, text_hash in text_hashes.items() if text_hash not in known}
        tombstones += [Tombstone(record_id, text_hash, time.time(), reason) for text_hash, record_id in new.items()]
        write_atomically(root / TOMBSTONES_FILE, "".join(json.dumps(asdict(line)) + "\n" for line in tombstones))


def tombstoned_hashes(folder: Path) -> pa.Array:
    """Return the hashes of erased texts for an artifact of a store; empty in most stores."""
    # An artifact of a dataset is four levels below the store, one of a run five.
    stores = [parent for parent in folder.absolute().parents[3:5] if (parent / TOMBSTONES_FILE).exists()]
    return to_string_array(tombstone.text_hash for store in stores for tombstone in read_tombstones(store))


def to_string_array(values: Iterable[str]) -> pa.Array:
    """Return distinct strings as a sorted Arrow array."""
    return pa.array(sorted(set(values)), pa.string())


def drop_rows(table: pa.Table, text_hashes: pa.Array) -> pa.Table:
    """Return the rows whose text hash is not in `text_hashes`."""
    return table.filter(pc.invert(pc.is_in(table["text_hash"], value_set=text_hashes)))
