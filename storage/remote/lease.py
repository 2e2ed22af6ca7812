"""One writer for a run on object storage: an object that its owner renews, and that goes stale when he no longer does.

A folder's lock is freed by the system when its owner ends; a bucket knows nothing of processes. So the owner
writes a line about himself, renews it while he lives, and deletes it when he leaves. One that was not renewed
for a minute, by the bucket's own clock, or whose owner was on this machine and is gone, can be taken over.
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
from storage.remote.mirror import bucket_for
from storage.remote.s3 import Bucket, BucketError, StoredObject

STALE = 60.0
"""Seconds without renewal after which a lease counts for nothing."""

_RENEWED = STALE / 4


class LeaseHeldError(HeirloomError):
    """Somebody else holds the lease; the message says who."""


@contextlib.contextmanager
def lease(path: Path, who: str) -> Iterator[None]:
    """Hold the lease at this place of a mirrored store; of a store that is a folder, nothing is asked.

    A lease that is lost while it is held interrupts the main thread: what would be written then is no longer
    this process's to write.

    Raises:
        LeaseHeldError: another process holds it.
    """
    if (place := bucket_for(path)) is None:
        yield
        return
    bucket, key = place
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Begun in the background, it would ignore the interruption by which a lost lease ends it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    claim = {"who": who, "host": socket.gethostname(), "process": os.getpid(), "token": uuid.uuid4().hex}
    tag = _take(bucket, key, claim)
    leaving = threading.Event()
    keeper = threading.Thread(target=_renew, args=(bucket, key, claim, tag, leaving), daemon=True)
    keeper.start()
    try:
        yield
    finally:
        leaving.set()
        keeper.join()
        with contextlib.suppress(BucketError):
            if (there := bucket.read(key)) and json.loads(there.content)["token"] == claim["token"]:
                bucket.delete([key])


def lease_holder(path: Path) -> str:
    """Who holds the lease at this place of a mirrored store; empty when nobody does, or the store is a folder."""
    if (place := bucket_for(path)) is None or (there := place[0].read(place[1])) is None or _is_stale(there):
        return ""
    return str(json.loads(there.content)["who"])


def _take(bucket: Bucket, key: str, claim: dict[str, object]) -> str:
    content = json.dumps(claim).encode()
    there = bucket.read(key)
    if there and not _is_stale(there):
        raise LeaseHeldError(json.loads(there.content)["who"])
    tag = bucket.put(key, content, if_match=there.etag if there else "")
    if tag is None:
        raise LeaseHeldError("another process, which began at the same moment")
    return tag


def _is_stale(there: StoredObject) -> bool:
    owner = json.loads(there.content)
    return there.age_seconds > STALE or (owner["host"] == socket.gethostname() and not _lives(owner["process"]))


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
            continue  # out of reach is not lost: whoever takes it over meanwhile is seen at the next beat
        if renewed is None:
            _thread.interrupt_main()
            return
        tag = renewed
