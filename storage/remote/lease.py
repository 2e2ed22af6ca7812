"""Lease-based lock for runs on object storage.

The operating system frees a file lock when its process ends; a bucket has no such mechanism. So the holder writes an
object that describes it, renews the object every 15 s and deletes it at the end. Another process may take the lease
over after 60 s without renewal, by the clock of the server, or if the holder was a process of this machine that no
longer exists. A machine is known by the id of its boot, and a process also by its namespace: containers can have the
same host name, and number their processes on their own.

A holder that lost its lease without noticing, as a machine that was suspended does, must not write the run.
So the token of the lease is read from the bucket before anything of the run is committed there.
"""

import _thread
import contextlib
import json
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from heirloom.errors import HeirloomError
from storage.remote.mirror import bucket_for, guarded
from storage.remote.s3 import Bucket, BucketError, StoredObject

STALE = 60.0
"""Seconds without renewal after which a lease may be taken over."""

_RENEWED = STALE / 4


class LeaseHeldError(HeirloomError):
    """Another process holds the lease; the message describes it."""


class LeaseLostError(HeirloomError):
    """Another process took the lease over while this one held it, and may write the run now."""


@contextlib.contextmanager
def lease(path: Path, who: str) -> Iterator[None]:
    """Hold the lease at a path of a mirrored store; does nothing in a store that is only a folder.

    If the lease is lost while it is held, the main thread is interrupted, since another process may write the run.

    Raises:
        LeaseHeldError: another process holds it.
    """
    if (place := bucket_for(path)) is None:
        yield
        return
    bucket, key = place
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background processes with SIGINT ignored; a lost lease could then not interrupt this one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    claim = {"who": who, "host": _host(), "process": os.getpid(), "token": uuid.uuid4().hex}
    tag = _take(bucket, key, claim)
    leaving = threading.Event()
    renewal = threading.Thread(target=_renew, args=(bucket, key, claim, tag, leaving), daemon=True)
    renewal.start()
    try:
        with guarded(path.parent, lambda: _check_held(bucket, key, claim)):
            yield
    finally:
        leaving.set()
        renewal.join()
        with contextlib.suppress(BucketError):
            if (stored := bucket.read(key)) and json.loads(stored.content)["token"] == claim["token"]:
                bucket.delete([key])


def lease_holder(path: Path) -> str:
    """Describe the holder of the lease at a path of a mirrored store; empty if there is none, or no bucket."""
    if (place := bucket_for(path)) is None or (stored := place[0].read(place[1])) is None or _is_stale(stored):
        return ""
    return str(json.loads(stored.content)["who"])


def _check_held(bucket: Bucket, key: str, claim: dict[str, object]) -> None:
    stored = bucket.read(key)
    owner = json.loads(stored.content) if stored else {}
    if owner.get("token") != claim["token"]:
        raise LeaseLostError(
            f"The lease {bucket.url}/{key} was taken over by {owner.get('who', 'another process, which has ended')}. "
            "Nothing more is written here. Run the same command again once that process has ended."
        )


def _take(bucket: Bucket, key: str, claim: dict[str, object]) -> str:
    content = json.dumps(claim).encode()
    stored = bucket.read(key)
    if stored and not _is_stale(stored):
        raise LeaseHeldError(json.loads(stored.content)["who"])
    tag = bucket.put(key, content, if_match=stored.etag if stored else "")
    if tag is None:
        raise LeaseHeldError("another process that started at the same moment")
    return tag


def _is_stale(stored: StoredObject) -> bool:
    owner = json.loads(stored.content)
    return stored.age_seconds > STALE or (owner["host"] == _host() and not _lives(owner["process"]))


def _host() -> str:
    """Identify the kernel and the namespace in which process numbers are unique; unique per call if that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return f"{socket.gethostname()} {uuid.uuid4().hex}"
    return f"{socket.gethostname()} {boot} {namespace}"


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _renew(bucket: Bucket, key: str, claim: dict[str, object], tag: str, leaving: threading.Event) -> None:
    beat = 0
    while not leaving.wait(_RENEWED):
        beat += 1
        try:
            renewed = bucket.put(key, json.dumps({**claim, "beat": beat}).encode(), if_match=tag)
        except BucketError:
            # An unreachable bucket is no lost lease; if another process takes it over, the next renewal fails.
            continue
        if renewed is None:
            _thread.interrupt_main()
            return
        tag = renewed
