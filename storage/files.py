"""File primitives: sizes and digests, fsync, and files and folders that appear complete or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import TypedDict

from heirloom.errors import HeirloomError


class FileInfo(TypedDict):
    """A file as a manifest lists it."""

    bytes: int
    sha256: str


def file_info(path: Path) -> FileInfo:
    """Return size and SHA-256 of a file, in the form in which a manifest lists it."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def manifest_digest(manifest: Mapping[str, object]) -> str:
    """Return the SHA-256 of a manifest without its own `manifest_digest`, so that later edits can be detected."""
    content = {key: value for key, value in manifest.items() if key != "manifest_digest"}
    # A round trip first: a manifest that was read back from JSON has lists where the written one had tuples.
    content = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fsync(path: Path) -> None:
    """Wait until the content of a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_size(folder: Path) -> int:
    """Return the total size in bytes of all files below a folder; files that vanish while counting are skipped."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).lstat().st_size
            except FileNotFoundError:
                continue
    return total


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a hidden path in the same folder to write to; it is renamed to `path` when the block ends without an error.

    The content is on the disk before the rename. After an error the hidden file is removed, and `path` is as it was.
    """
    hidden = path.with_name(f".{path.name}.tmp")
    hidden.unlink(missing_ok=True)
    try:
        yield hidden
        fsync(hidden)
        hidden.rename(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file, as UTF-8 if `content` is text; readers see the old content or the new one, never a part of it."""
    with atomic_file(path) as hidden:
        hidden.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to write to; it is renamed to `folder` at the end, or removed after an error.

    Raises:
        HeirloomError: the folder exists already.
    """
    if folder.exists():
        raise HeirloomError(f"{folder} exists already. Name another folder with --out, or remove it.")
    hidden = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        yield hidden
        hidden.rename(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
