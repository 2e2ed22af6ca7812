"""Tombstones: hashes of erased texts, which no later corpus, prompt or view may contain.

<root>/tombstones.jsonl        one line per text: the id it was erased by, its hash, time and reason
       tombstones.seal.json    length and digest of that file, so that its loss shows

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
from pydantic import TypeAdapter, ValidationError

from heirloom.errors import one_line
from storage.artifacts.parquet_io import DamagedError
from storage.artifacts.seals import TOMBSTONES_FILE, begins_with, content_info, possible_stores
from storage.files import FileInfo, write_atomically

SEAL_FILE = "tombstones.seal.json"

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


_TOMBSTONES_TYPE = TypeAdapter(list[Tombstone])
_SEAL_TYPE = TypeAdapter(FileInfo)


def read_tombstones(root: Path) -> list[Tombstone]:
    """Return every tombstone of a store, oldest first.

    Raises:
        DamagedError: the file cannot be read, is missing, or is not the one that was written. Then no table may be
            read, since erased texts could come back.
    """
    return _parse(_read(root), root / TOMBSTONES_FILE)


def _read(root: Path) -> bytes:
    """Return the content of the file of tombstones, which may have grown since its seal was written."""
    path = root / TOMBSTONES_FILE
    content = path.read_bytes() if path.exists() else b""
    seal = _seal(root)
    if seal is not None and not begins_with(content, seal):
        what = "has been changed" if path.exists() else "is missing"
        raise DamagedError(
            f"{path} {what} since it was written. It lists the texts that must not be used: restore it from a backup."
        )
    return content


def _seal(root: Path) -> FileInfo | None:
    path = root / SEAL_FILE
    try:
        return _SEAL_TYPE.validate_json(path.read_bytes()) if path.exists() else None
    except ValidationError as error:
        raise DamagedError(f"{path} is damaged. Restore it from a backup, with {TOMBSTONES_FILE}.") from error


def _parse(content: bytes, path: Path) -> list[Tombstone]:
    try:
        return _TOMBSTONES_TYPE.validate_python([json.loads(line) for line in content.splitlines()])
    except (ValueError, RecursionError) as error:
        raise DamagedError(
            f"{path} is damaged ({one_line(error)}). It lists the texts that must not be used: restore it from a "
            "backup."
        ) from error


def add_tombstones(root: Path, text_hashes: Mapping[str, str], reason: str) -> None:
    """Add a tombstone for every hash (values of `text_hashes`, by id) that has none, in one atomic write."""
    # A separate lock file, since the locked file must not be the one that is replaced.
    with (root / ".tombstones.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = _read(root)
        known = {tombstone.text_hash for tombstone in _parse(content, root / TOMBSTONES_FILE)}
        new = {text_hash: record_id for record_id, text_hash in text_hashes.items() if text_hash not in known}
        added = [Tombstone(record_id, text_hash, time.time(), reason) for text_hash, record_id in new.items()]
        content += "".join(json.dumps(asdict(tombstone)) + "\n" for tombstone in added).encode()
        # In this order: killed in between, the file has grown, and still begins with what the old seal covers.
        write_atomically(root / TOMBSTONES_FILE, content)
        write_atomically(root / SEAL_FILE, json.dumps(content_info(content)))


def tombstoned_hashes(folder: Path) -> pa.Array:
    """Return the hashes of erased texts for an artifact of a store; empty in most stores."""
    stores = [
        store for store in possible_stores(folder) if (store / TOMBSTONES_FILE).exists() or (store / SEAL_FILE).exists()
    ]
    return to_string_array(tombstone.text_hash for store in stores for tombstone in read_tombstones(store))


def to_string_array(values: Iterable[str]) -> pa.Array:
    """Return distinct strings as a sorted Arrow array."""
    return pa.array(sorted(set(values)), pa.string())


def drop_rows(table: pa.Table, text_hashes: pa.Array) -> pa.Table:
    """Return the rows whose text hash is not in `text_hashes`."""
    return table.filter(pc.invert(pc.is_in(table["text_hash"], value_set=text_hashes)))
