"""Faults of disks and files, met through the real command line: one sentence, nothing damaged, and the next run goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storage.artifact import FORMAT, MANIFEST
from storage.verify import verify
from tests.conftest import skip

ROOT = Path(__file__).parent.parent
ATTEMPT = "runs/tiny/generation=2/attempt=1"


def _heirloom(store: Path, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line; `before` is what a shell does first, in a mount namespace of its own."""
    words = [sys.executable, "-m", "flows", *arguments]
    if before:
        words = ["unshare", "-m", "sh", "-ec", f'{before}\nexec "$@"', "sh", *words]
    environment = {**os.environ, "HEIRLOOM_STORE": str(store), "COLUMNS": "200"}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def _refused(found: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert found.returncode in (1, 2), found.stdout
    assert sentence in found.stderr
    assert found.stderr.count("heirloom:") == 1
    assert "Traceback" not in found.stderr


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A folder to mount on, where this machine lets a test mount."""
    place = tmp_path / "mounted"
    place.mkdir()
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False
    ) if shutil.which("unshare") else None
    if tried is None or tried.returncode:
        skip("this machine lets no test mount a disk of its own")
    return place


def test_a_read_only_store_is_read_and_nothing_else(store: Path, mounts: Path) -> None:
    before = f"mount --bind {store} {mounts}; mount -o remount,bind,ro {mounts}"
    for words in (["runs"], ["show", "tiny"], ["verify"], ["gc"], ["sql", "select count(*) from corpus"]):
        found = _heirloom(mounts, *words, before=before)
        assert found.returncode == 0, found.stderr
    for words in (
        ["evolve", "tiny", "--set", "generations=4"],
        ["rm", "tiny", "--yes"],
        ["fork", "tiny", "--generation", "1", "--as", "other"],
        ["forget", "tiny/g001-0000000"],
        ["gc", "--keep-models", "1", "--yes"],
    ):
        _refused(_heirloom(mounts, *words, before=before), "Read-only file system")
    assert verify(store).faults == ()


def test_a_full_disk_ends_a_run_and_room_lets_it_go_on(store: Path, mounts: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kibibytes = sum(path.stat().st_size + 8192 for path in store.rglob("*")) // 1024
    before = f"mount -t tmpfs -o size={kibibytes + 60}k tmpfs {mounts}; cp -a {store}/. {mounts}; trap 'cp -a {mounts} {kept}' EXIT"
    # The copy out of the full disk is made by the shell that goes on, so the command must not replace it.
    words = f"{before}\n{sys.executable} -m flows evolve tiny --set generations=12"
    environment = {**os.environ, "HEIRLOOM_STORE": str(mounts)}
    found = subprocess.run(
        ["unshare", "-m", "sh", "-c", words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    _refused(found, "No space left on device")
    assert verify(kept).faults == ()
    again = _heirloom(kept, "evolve", "tiny", "--set", "generations=5")
    assert again.returncode == 0, again.stderr
    assert verify(kept).faults == ()


def test_a_file_where_a_folder_should_be_is_named(store: Path) -> None:
    (store / "runs/tiny/generation=4").write_text("in the way")
    _refused(_heirloom(store, "evolve", "tiny", "--set", "generations=4"), "generation=4")
    (store / "runs/tiny/generation=4").unlink()
    assert _heirloom(store, "evolve", "tiny", "--set", "generations=4").returncode == 0
    assert verify(store).faults == ()


@pytest.mark.parametrize("fault", ["vanished", "truncated", "flipped"])
def test_a_damaged_part_is_named_and_what_verify_advises_mends_it(fault: str, store: Path) -> None:
    path = store / ATTEMPT / "candidates/part-00000.parquet"
    content = bytearray(path.read_bytes())
    if fault == "vanished":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    _refused(_heirloom(store, "evolve", "tiny", "--set", "generations=4"), "candidates")
    found = _heirloom(store, "verify")
    assert found.returncode == 1
    assert f"or remove {path.parent} and let heirloom evolve tiny make it anew" in found.stdout
    shutil.rmtree(path.parent)
    mended = _heirloom(store, "evolve", "tiny", "--set", "generations=4")
    assert mended.returncode == 0, mended.stderr
    assert verify(store).faults == ()


def test_a_store_of_a_newer_version_is_refused_and_not_touched(store: Path) -> None:
    for path in [*store.rglob(MANIFEST), store / "runs/tiny/run.json"]:
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    for words in (
        ["evolve", "tiny", "--set", "generations=4"],
        ["sql", "select 1"],
        ["show", "tiny"],
        ["runs"],
        ["fork", "tiny", "--generation", "1", "--as", "other"],
        ["rm", "tiny", "--yes"],
    ):
        _refused(_heirloom(store, *words), f"has format {FORMAT + 1}, this Heirloom reads up to {FORMAT}; upgrade")
    assert _heirloom(store, "verify").returncode == 1
    after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after.items() <= before.items()
