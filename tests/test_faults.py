"""Faults of disks and files, met through the real command line.

One sentence, nothing damaged, and the next run goes on.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage.artifacts.artifact import FORMAT, MANIFEST
from storage.maintenance.verify import verify
from tests.flows.cli.test_app import heirloom
from tests.support.paths import ROOT

ATTEMPT = "runs/tiny/generation=2/attempt=1"


_ALL = """
import contextlib, io, json, sys
from flows.cli.app import main
for words in json.loads(sys.argv[1]):
    errors, code = io.StringIO(), 0
    sys.argv = ["heirloom", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    print(json.dumps([code, errors.getvalue()]), flush=True)
"""


def _mounted(store: Path, before: str, *commands: list[str]) -> list[tuple[int, str]]:
    """Run commands one after another in a mount namespace of their own, after a shell has done `before`."""
    words = [
        "unshare",
        "-m",
        "sh",
        "-ec",
        f'{before}\nexec "$@"',
        "sh",
        sys.executable,
        "-c",
        _ALL,
        json.dumps(commands),
    ]
    environment = {**os.environ, "HEIRLOOM_STORE": str(store), "COLUMNS": "200", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return [(code, message) for code, message in map(json.loads, found.stdout.splitlines())]


@dataclass(frozen=True)
class CommandLine:
    """The command line in this process: exit code and message."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, store: Path, *arguments: str) -> tuple[int, str]:
        self.monkeypatch.setenv("HEIRLOOM_STORE", str(store))
        code = heirloom(self.monkeypatch, *arguments)
        output = self.capsys.readouterr()
        return code, output.err or " ".join(output.out.split())


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], prefect_server: None
) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


def _refused(found: tuple[int, str], sentence: str) -> None:
    code, message = found
    assert code in (1, 2), message
    assert sentence in " ".join(message.split())
    assert message.count("heirloom:") == 1
    assert "Traceback" not in message


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A folder to mount on, where this machine lets a test mount."""
    place = tmp_path / "mounted"
    place.mkdir()
    tried = (
        subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    if tried is None or tried.returncode:
        pytest.skip("this machine lets no test mount a disk of its own")
    return place


def test_a_read_only_store_is_read_and_nothing_else(store: Path, mounts: Path) -> None:
    before = f"mount --bind {store} {mounts}; mount -o remount,bind,ro {mounts}"
    reading = [["show", "tiny"], ["verify"], ["sql", "select count(*) from corpus"]]
    writing = [
        ["run", "tiny", "--set", "num_generations=4"],
        ["rm", "tiny", "--yes"],
        ["fork", "tiny", "--generation", "1", "--name", "other"],
        ["erase", "tiny/g001-0000000"],
        ["gc", "--keep-models", "1", "--yes"],
    ]
    found = _mounted(mounts, before, *reading, *writing)
    assert [code for code, _ in found[:3]] == [0, 0, 0]
    for refused in found[3:]:
        _refused(refused, "Read-only file system")
    assert len(found) == 8
    assert verify(store).errors == ()


def test_a_full_disk_ends_a_run_and_room_lets_it_go_on(
    store: Path, mounts: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    kept = tmp_path / "kept"
    kibibytes = sum(path.stat().st_size + 8192 for path in store.rglob("*")) // 1024 + 60
    # The shell goes on behind the command, and takes what is on the full disk to where there is room.
    words = f"""mount -t tmpfs -o size={kibibytes}k tmpfs {mounts}; cp -a {store}/. {mounts}
        trap 'cp -a {mounts} {kept}' EXIT; {sys.executable} -m flows run tiny --set num_generations=12"""
    environment = {**os.environ, "HEIRLOOM_STORE": str(mounts)}
    found = subprocess.run(
        ["unshare", "-m", "sh", "-c", words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    _refused((found.returncode, found.stderr), "No space left on device")
    assert verify(kept).errors == ()
    assert command_line(kept, "run", "tiny", "--set", "num_generations=5")[0] == 0
    assert verify(kept).errors == ()


def test_a_file_where_a_folder_should_be_is_named(store: Path, command_line: CommandLine) -> None:
    (store / "runs/tiny/generation=4").write_text("in the way")
    _refused(command_line(store, "run", "tiny", "--set", "num_generations=4"), "generation=4")
    (store / "runs/tiny/generation=4").unlink()
    assert command_line(store, "run", "tiny", "--set", "num_generations=4")[0] == 0
    assert verify(store).errors == ()


def test_damaged_parts_are_named_and_what_verify_advises_mends_them(store: Path, command_line: CommandLine) -> None:
    vanished, cut, flipped = (
        store / ATTEMPT / name / "part-00000.parquet" for name in ("candidates", "decisions", "eval_samples")
    )
    vanished.unlink()
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 3] ^= 1
    flipped.write_bytes(content)
    _refused(command_line(store, "run", "tiny", "--set", "num_generations=4"), "candidates")
    code, message = command_line(store, "verify")
    assert code == 1
    for path in (vanished, cut, flipped):
        assert f"or remove {path.parent} and let heirloom run tiny create it again" in message
        shutil.rmtree(path.parent)
    assert command_line(store, "run", "tiny", "--set", "num_generations=4")[0] == 0
    assert verify(store).errors == ()


def test_a_store_of_a_newer_version_is_refused_and_not_touched(store: Path, command_line: CommandLine) -> None:
    for path in [*store.rglob(MANIFEST), store / "runs/tiny/run.json"]:
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    for words in (
        ["run", "tiny", "--set", "num_generations=4"],
        ["sql", "select 1"],
        ["show", "tiny"],
        ["list"],
        ["fork", "tiny", "--generation", "1", "--name", "other"],
        ["rm", "tiny", "--yes"],
    ):
        _refused(command_line(store, *words), f"has format {FORMAT + 1}, this Heirloom reads format {FORMAT}; upgrade")
    assert command_line(store, "verify")[0] == 1
    after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after.items() <= before.items()
