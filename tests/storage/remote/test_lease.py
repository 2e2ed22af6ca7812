"""One writer for a run on object storage."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import storage.remote.lease
from storage.remote.lease import STALE, LeaseHeldError, LeaseLostError, lease
from storage.remote.mirror import publish, sync, write_small
from storage.remote.s3 import Bucket
from tests.support.paths import ROOT
from tests.support.waiting import until


@pytest.fixture
def place(bucket_url: str, tmp_path: Path) -> Path:
    sync(tmp_path / "mirror", bucket_url)
    return tmp_path / "mirror" / "runs" / "tiny" / ".lock"


def test_a_folder_asks_for_nothing(tmp_path: Path) -> None:
    with lease(tmp_path / ".lock", "me"), lease(tmp_path / ".lock", "me again"):
        assert list(tmp_path.iterdir()) == []


def test_a_held_lease_names_its_owner_and_is_free_after_release(place: Path, bucket_url: str) -> None:
    with lease(place, "the first"):
        with pytest.raises(LeaseHeldError, match="the first"), lease(place, "the second"):
            pass
        assert list(Bucket(bucket_url).list_etags()) == ["runs/tiny/.lock"]
    assert Bucket(bucket_url).list_etags() == {}
    with lease(place, "the second"):
        pass


def test_the_lease_of_a_process_that_died_here_is_taken_over_at_once(place: Path, bucket_url: str) -> None:
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    claim = {"who": "the dead", "host": storage.remote.lease._host(), "process": died.pid, "token": "t"}
    Bucket(bucket_url).put("runs/tiny/.lock", json.dumps(claim).encode())
    with lease(place, "the heir"):
        assert json.loads(Bucket(bucket_url).read("runs/tiny/.lock").content)["who"] == "the heir"  # type: ignore[union-attr]


def test_a_lease_of_another_machine_counts_until_it_is_stale(
    place: Path, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = {"who": "far away", "host": "another", "process": os.getpid(), "token": "t"}
    Bucket(bucket_url).put("runs/tiny/.lock", json.dumps(claim).encode())
    with pytest.raises(LeaseHeldError, match="far away"), lease(place, "me"):
        pass
    time.sleep(2.1)  # ages are counted in whole seconds
    monkeypatch.setattr(storage.remote.lease, "STALE", STALE / 60)
    with lease(place, "me"):
        pass


def test_the_same_host_name_in_another_container_is_another_machine(place: Path, bucket_url: str) -> None:
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for host in (
        socket.gethostname(),
        f"{socket.gethostname()} {boot} pid:[1]",
        storage.remote.lease._host().replace(boot, "0"),
    ):
        claim = {"who": "the living", "host": host, "process": died.pid, "token": "t"}
        Bucket(bucket_url).put("runs/tiny/.lock", json.dumps(claim).encode(), if_match=None)
        with pytest.raises(LeaseHeldError, match="the living"), lease(place, "me"):
            pass


def test_a_process_in_another_namespace_does_not_take_the_lease(place: Path, bucket_url: str, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom storage.remote.lease import LeaseHeldError, lease\n"
        "try:\n    with lease(Path(sys.argv[1]), 'a container'): print('taken')\n"
        "except LeaseHeldError as error: print('held by', error)"
    )
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program, str(place)]
    with lease(place, "the first"):
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "Operation not permitted" in found.stderr:
        pytest.skip("namespaces cannot be created here")
    assert found.stdout == "held by the first\n", found.stderr


def test_nothing_is_committed_once_the_lease_is_lost(place: Path, bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    journal = place.parent / "journal.jsonl"
    place.parent.mkdir(parents=True)
    with lease(place, "me"):
        write_small(journal, b"mine")
        bucket.put("runs/tiny/.lock", b'{"who": "a thief", "token": "another"}', if_match=None)
        with pytest.raises(LeaseLostError, match="taken over by a thief"):
            write_small(journal, b"mine again")
        draft = place.parent / ".draft"
        draft.mkdir()
        (draft / "_manifest.json").write_text('{"files": {}}')
        with pytest.raises(LeaseLostError, match="taken over by a thief"):
            publish(draft, place.parent / "generation=0" / "attempt=1" / "corpus")
    assert bucket.read("runs/tiny/journal.jsonl").content == journal.read_bytes() == b"mine"  # type: ignore[union-attr]
    assert not [key for key in bucket.list_etags() if "corpus" in key]


def test_a_lease_is_renewed_and_one_that_is_lost_interrupts_its_owner(
    place: Path, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.remote.lease, "_RENEWED", 0.05)
    bucket = Bucket(bucket_url)
    with pytest.raises(KeyboardInterrupt), lease(place, "me"):  # noqa: PT012
        first = bucket.read("runs/tiny/.lock")
        until(lambda: (bucket.read("runs/tiny/.lock") or first) != first, "a renewal")
        renewed = bucket.read("runs/tiny/.lock")
        assert renewed and first and renewed.etag != first.etag
        bucket.put("runs/tiny/.lock", b'{"who": "a thief", "token": "another"}', if_match=None)
        until(lambda: False, "the interrupt")
    assert json.loads(bucket.read("runs/tiny/.lock").content)["who"] == "a thief"  # type: ignore[union-attr]
