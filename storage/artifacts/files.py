"""What a file is on the disk: its size and digest, whether it has got there, the seal of a manifest, a folder that is whole or absent."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError


def file_info(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as a manifest lists it."""
    with path.open("rb") as content:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Digest of all that a manifest says, so that a change of it is seen."""
    said = json.loads(json.dumps({key: value for key, value in manifest.items() if key != "manifest_digest"}))
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def fsync(path: Path) -> None:
    """Wait until a file or folder has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder; a file that goes away meanwhile does not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to write to, which takes its name once all is in it; after an error nothing is left.

    Raises:
        HeirloomError: the folder is there already.
    """
    if folder.exists():
        raise HeirloomError(f"{folder} is there already; name another folder with --out, or remove it")
    hidden = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        yield hidden
        hidden.rename(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
