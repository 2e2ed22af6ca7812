"""What was forgotten: texts that no later corpus, prompt or view holds, by their digests.

<root>/tombstones.jsonl    one line a text: the id it was forgotten by, its digest, when, and why

A digest stays when its text is gone, so that the same text cannot come back under whatever id.
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
"""A text that was forgotten."""


@dataclass(frozen=True)
class Tombstone:
    """One forgotten text."""

    id: str
    text_hash: str
    time: float
    reason: str


def read_tombstones(root: Path) -> list[Tombstone]:
    """Every tombstone of a store, oldest first.

    Raises:
        DamagedError: the file cannot be read; then nothing may be read, lest a forgotten text comes back.
    """
    path = root / TOMBSTONES_FILE
    if not path.exists():
        return []
    try:
        return [Tombstone(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise DamagedError(
            f"{path} is damaged ({error}), and it says which texts must not be used; restore it from a copy"
        ) from error


def add_tombstones(root: Path, text_hashes: Mapping[str, str], reason: str) -> None:
    """Add a tombstone for every digest that has none, by the id it is known by; all at once or none."""
    # Its own file, because the one that is locked must not be the one that is replaced.
    with (root / ".tombstones.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read_tombstones(root)
        buried = {one.text_hash for one in known}
        new = {digest: identity for identity, digest in text_hashes.items() if digest not in buried}
        known += [Tombstone(identity, digest, time.time(), reason) for digest, identity in new.items()]
        write_atomically(root / TOMBSTONES_FILE, "".join(json.dumps(asdict(one)) + "\n" for one in known))


def tombstoned_hashes(folder: Path) -> pa.Array:
    """Digests that must be left out of what is read from this artifact; empty in most stores."""
    # A human artifact lies three folders below the store, one of a run four.
    stores = [place for place in folder.absolute().parents[3:5] if (place / TOMBSTONES_FILE).exists()]
    return to_string_array(one.text_hash for place in stores for one in read_tombstones(place))


def to_string_array(values: Iterable[str]) -> pa.Array:
    """Digests as Arrow compares them."""
    return pa.array(sorted(set(values)), pa.string())


def drop_rows(table: pa.Table, text_hashes: pa.Array) -> pa.Table:
    """The rows whose text was not forgotten."""
    return table.filter(pc.invert(pc.is_in(table["text_hash"], value_set=text_hashes)))
