"""A store on object storage: the bucket is the truth, a folder here is where it is worked on.

The folder is an ordinary store, so everything reads and asks it as one; a file in it says which bucket it
mirrors. Small files are brought here when a command begins, parts and weights when they are first read.
A commit is made in the bucket first: files, then the manifest by a write that succeeds once. So an artifact
is absent or finished for every reader of the bucket, and nothing is finished here that is not finished there.
"""

import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError
from storage.files import atomic_file, sha256_of, write_atomically
from storage.remote.s3 import SCHEME, Bucket

_MARK = ".mirror.json"
_MANIFEST = "_manifest.json"
_SMALL = (_MANIFEST, "run.json", "journal.jsonl")
_pulling = threading.Lock()


class ConflictError(HeirloomError):
    """Another process has written what this one was about to write."""


def mirror_path(url: str) -> Path:
    """Where a store on object storage is kept at hand, unless the site says otherwise."""
    return Path.home() / ".cache" / "heirloom" / url.removeprefix(SCHEME).strip("/")


def sync(root: Path, url: str) -> None:
    """Make `root` the mirror of the store at `url`, and bring it up to date.

    Raises:
        HeirloomError: `root` is a store of its own, or mirrors another bucket.
        BucketError: the bucket cannot be read.
    """
    mark = root / _MARK
    if mark.exists() and (other := json.loads(mark.read_text())["url"]) != url:
        raise HeirloomError(
            f"{root} mirrors {other}, not {url}; name another folder for it as `store` in the site file"
        )
    if not mark.exists() and root.exists() and any(root.iterdir()):
        raise HeirloomError(
            f"{root} is not empty and mirrors nothing; name another folder for it as `store` in the site file"
        )
    with _pulling:
        seen = json.loads(mark.read_text())["seen"] if mark.exists() else {}
        _pull(Bucket(url), root, seen)


def bucket_for(path: Path) -> tuple[Bucket, str] | None:
    """The bucket that mirrors this place, and its key there; None in a store that is a folder and nothing more."""
    for parent in path.parents:
        mark = parent / _MARK
        if mark.exists():
            return Bucket(json.loads(mark.read_text())["url"]), path.relative_to(parent).as_posix()
    return None


def publish(draft: Path, folder: Path) -> None:
    """Publish what stands in `draft` as `folder` in the bucket, if there is one; nothing is published twice.

    Raises:
        ConflictError: another process has published something else there.
    """
    if (place := bucket_for(folder)) is None:
        return
    bucket, key = place
    manifest = (draft / _MANIFEST).read_bytes()
    if (there := bucket.read(f"{key}/{_MANIFEST}")) is None:
        for name in json.loads(manifest)["files"]:
            bucket.upload(draft / name, f"{key}/{name}")
        if bucket.put(f"{key}/{_MANIFEST}", manifest):
            return
        there = bucket.read(f"{key}/{_MANIFEST}")
    if there is None or there.content != manifest:
        raise ConflictError(f"{folder} was published by another process meanwhile; the same command goes on with that")


def write_small(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all: in the bucket first if there is one, then here."""
    if place := bucket_for(path):
        place[0].put(place[1], content, if_match=None)
    write_atomically(path, content)


def read_latest(path: Path) -> bytes:
    """A small file as it stands in the bucket if there is one, else here; empty where it is not."""
    if place := bucket_for(path):
        there = place[0].read(place[1])
        return there.content if there else b""
    return path.read_bytes() if path.exists() else b""


def fetch(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Bring these files of an artifact here, each checked against what the manifest says of it.

    Raises:
        BucketError: one is not there, or the bucket cannot be read.
        HeirloomError: one is not what the manifest says.
    """
    if (place := bucket_for(folder)) is None:
        return
    bucket, key = place
    for name, expected in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / name) as hidden:
            bucket.fetch(f"{key}/{name}", hidden)
            if (digest := sha256_of(hidden)) != expected["sha256"]:
                raise HeirloomError(
                    f"{bucket.url}: {key}/{name} is damaged: its SHA-256 is {digest}, the manifest says "
                    f"{expected['sha256']}. Restore the object, or delete the artifact to recompute it."
                )


@contextlib.contextmanager
def fresh_copy(root: Path) -> Iterator[Path]:
    """The store as every reader of it would get it: of a mirror, another one made anew; of a folder, the folder."""
    if not (root / _MARK).exists():
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="heirloom-") as folder:
        sync(Path(folder), json.loads((root / _MARK).read_text())["url"])
        yield Path(folder)


def upload(folder: Path) -> None:
    """Copy a folder that is no artifact, a report, to the bucket if there is one."""
    if place := bucket_for(folder):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place[0].upload(path, f"{place[1]}/{path.relative_to(folder).as_posix()}")


def remove(path: Path) -> None:
    """Remove a file or a folder, from the bucket first if there is one, and there the manifests before the rest."""
    if place := bucket_for(path):
        bucket, key = place
        keys = [found for found in bucket.list_etags() if found == key or found.startswith(f"{key}/")]
        bucket.delete(sorted(keys, key=lambda one: not one.endswith(_MANIFEST)))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pull(bucket: Bucket, root: Path, seen: dict[str, str]) -> None:
    small = {key: tag for key, tag in bucket.list_etags().items() if key.rpartition("/")[2] in _SMALL}
    for key, tag in small.items():
        path = root / key
        if seen.get(key) != tag or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as hidden:
                bucket.fetch(key, hidden)
    for gone in set(seen) - set(small):
        _remove_local(root / gone)
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(root / _MARK, json.dumps({"url": bucket.url, "seen": small}))


def _remove_local(path: Path) -> None:
    """What is no longer in the bucket goes here too: an artifact whole, another file alone."""
    if path.name == _MANIFEST:
        shutil.rmtree(path.parent, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
