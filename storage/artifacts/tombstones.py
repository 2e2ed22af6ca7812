"""What was forgotten: texts that no later corpus, prompt or view holds, by their digests.

<root>/forgotten.jsonl    one line a text: the id it was forgotten by, its digest, when, and why

A digest stays when its text is gone, so that the same text cannot come back under whatever id.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from storage.artifacts.parquet_io import DamagedError

FILE = "forgotten.jsonl"

FORGOTTEN = pa.schema([("id", pa.string()), ("digest", pa.string()), ("time", pa.float64()), ("reason", pa.string())])
"""A text that was forgotten."""


@dataclass(frozen=True)
class Tombstone:
    """One forgotten text."""

    id: str
    digest: str
    time: float
    reason: str


def read_tombstones(root: Path) -> list[Tombstone]:
    """Every tombstone of a store, oldest first.

    Raises:
        DamagedError: the file cannot be read; then nothing may be read, lest a forgotten text comes back.
    """
    path = root / FILE
    if not path.exists():
        return []
    try:
        return [Tombstone(**json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError) as error:
        raise DamagedError(
            f"{path} is damaged ({error}), and it says which texts must not be used; restore it from a copy"
        ) from error


def bury(root: Path, digests: Mapping[str, str], reason: str) -> None:
    """Add a tombstone for every digest that has none, by the id it is known by; all at once or none."""
    # Its own file, because the one that is locked must not be the one that is replaced.
    with (root / ".forgotten.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = read_tombstones(root)
        buried = {one.digest for one in known}
        new = {digest: identity for identity, digest in digests.items() if digest not in buried}
        known += [Tombstone(identity, digest, time.time(), reason) for digest, identity in new.items()]
        hidden = root / f".{FILE}"
        with hidden.open("w") as file:
            file.writelines(json.dumps(asdict(one)) + "\n" for one in known)
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(root / FILE)


def forgotten_digests(folder: Path) -> pa.Array:
    """Digests that must be left out of what is read from this artifact; empty in most stores."""
    # A human artifact lies three folders below the store, one of a run four.
    stores = [place for place in folder.absolute().parents[3:5] if (place / FILE).exists()]
    return digest_array(one.digest for place in stores for one in read_tombstones(place))


def digest_array(digests: Iterable[str]) -> pa.Array:
    """Digests as Arrow compares them."""
    return pa.array(sorted(set(digests)), pa.string())


def without(table: pa.Table, digests: pa.Array) -> pa.Table:
    """The rows whose text was not forgotten."""
    return table.filter(pc.invert(pc.is_in(table["digest"], value_set=digests)))
