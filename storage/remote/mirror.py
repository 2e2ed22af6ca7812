"""Stores on object storage: the bucket is the source of truth, a local folder mirrors it.

The folder is an ordinary store, so all other code reads it as one; a file in it names the bucket. Small files are
downloaded when a command starts, parts and weights when they are first read. An artifact is published in the bucket
first: its files, then the manifest by a conditional write that succeeds once. So an artifact is absent or finished for
every reader of the bucket, and finished in the folder only if it is finished in the bucket.
"""

import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from heirloom.errors import HeirloomError
from storage.files import FileInfo, atomic_file, sha256_of, write_atomically
from storage.names import first_link, is_inner_path
from storage.remote.s3 import SCHEME, Bucket

_MARK = ".mirror.json"
_MANIFEST = "_manifest.json"
_SMALL = (_MANIFEST, "run.json", "journal.jsonl", "judgements.jsonl")
_pulling = threading.Lock()
_guards: dict[Path, Callable[[], None]] = {}
"""Checks to pass before anything below a folder is written to its bucket."""


class ConflictError(HeirloomError):
    """Another process has published a different artifact in this folder."""


def mirror_path(url: str) -> Path:
    """Return the default folder of the local mirror of a store on object storage."""
    return Path.home() / ".cache" / "heirloom" / url.removeprefix(SCHEME).strip("/")


def sync(root: Path, url: str) -> None:
    """Make `root` the mirror of the store at `url` and download new small files.

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
    """Return the bucket of a path in a mirrored store, and its key there; None in a store that is only a folder."""
    for parent in path.parents:
        mark = parent / _MARK
        if mark.exists():
            return Bucket(json.loads(mark.read_text())["url"]), path.relative_to(parent).as_posix()
    return None


@contextlib.contextmanager
def guarded(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before each write to the bucket below `folder` within the block; it raises if none is allowed."""
    _guards[folder] = check
    try:
        yield
    finally:
        del _guards[folder]


def publish(draft: Path, folder: Path) -> None:
    """Upload `draft` to the bucket, if there is one, as the artifact of `folder`; idempotent.

    Raises:
        ConflictError: another process has published a different artifact there.
    """
    location = bucket_for(folder)
    if location is None:
        return
    bucket, key = location
    manifest = (draft / _MANIFEST).read_bytes()
    published = bucket.read(f"{key}/{_MANIFEST}")
    if published is None:
        for name in json.loads(manifest)["files"]:
            bucket.upload(draft / name, f"{key}/{name}")
        _check_guards(folder)
        if bucket.put(f"{key}/{_MANIFEST}", manifest):
            return
        published = bucket.read(f"{key}/{_MANIFEST}")
    if published is None or published.content != manifest:
        raise ConflictError(
            f"{folder} was published by another process meanwhile. Run the same command again to continue with it."
        )


def write_small(path: Path, content: bytes) -> None:
    """Write a small file atomically: to the bucket first, if there is one, then locally."""
    if location := bucket_for(path):
        bucket, key = location
        _check_guards(path)
        bucket.put(key, content, if_match=None)
    write_atomically(path, content)


def _check_guards(path: Path) -> None:
    for parent in path.parents:
        if check := _guards.get(parent):
            check()


def read_latest(path: Path) -> bytes:
    """Return the content of a small file from the bucket, if there is one, else from the folder; empty if absent."""
    if location := bucket_for(path):
        bucket, key = location
        stored = bucket.read(key)
        return stored.content if stored else b""
    return path.read_bytes() if path.exists() else b""


def fetch(folder: Path, files: Mapping[str, FileInfo]) -> None:
    """Download files of an artifact and check each one against its entry in the manifest.

    Raises:
        BucketError: a file is not in the bucket, or the bucket cannot be read.
        HeirloomError: the digest of a file differs from the manifest.
    """
    location = bucket_for(folder)
    if location is None:
        return
    bucket, key = location
    for name, expected in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / name) as hidden:
            bucket.fetch(f"{key}/{name}", hidden)
            if (digest := sha256_of(hidden)) != expected["sha256"]:
                raise HeirloomError(
                    f"{bucket.url}: {key}/{name} is damaged: its SHA-256 is {digest}, the manifest has "
                    f"{expected['sha256']}. Restore the object, or delete the artifact to recompute it."
                )


@contextlib.contextmanager
def fresh_copy(root: Path) -> Iterator[Path]:
    """Yield a new, temporary mirror of a mirrored store; of a store that is only a folder, the folder itself."""
    if not (root / _MARK).exists():
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="heirloom-") as folder:
        sync(Path(folder), json.loads((root / _MARK).read_text())["url"])
        yield Path(folder)


def upload(folder: Path) -> None:
    """Upload a folder that is not an artifact, such as a report, to the bucket if there is one."""
    if location := bucket_for(folder):
        bucket, key = location
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            bucket.upload(path, f"{key}/{path.relative_to(folder).as_posix()}")


def remove(path: Path) -> None:
    """Delete a file or folder, first in the bucket if there is one, where manifests go before other files."""
    if location := bucket_for(path):
        bucket, key = location
        keys = [name for name in bucket.list_etags() if name == key or name.startswith(f"{key}/")]
        bucket.delete(sorted(keys, key=lambda name: not name.endswith(_MANIFEST)))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pull(bucket: Bucket, root: Path, seen: dict[str, str]) -> None:
    small = {key: tag for key, tag in bucket.list_etags().items() if key.rpartition("/")[2] in _SMALL}
    for key in (*small, *seen):
        if not is_inner_path(key):
            raise HeirloomError(
                f"{bucket.url} contains the object {key!r}, which is not a path inside of a store. Nothing was "
                "downloaded: delete the object, or do not use this bucket."
            )
        if link := first_link(root, key):
            raise HeirloomError(f"{link} is a symbolic link, which no mirror contains. Remove it.")
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
    """Delete locally what is no longer in the bucket: the whole artifact of a manifest, or a single file."""
    if path.name == _MANIFEST:
        shutil.rmtree(path.parent, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
