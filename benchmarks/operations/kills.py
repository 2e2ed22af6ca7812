"""Kills at random instants, each followed by the same command: what was stored stays, and the end is the same.

`survive` is what the storage benchmark counts with, and the tests with fewer kills. Run as a module it is the
loop without Prefect, which starts quickly: `python -m benchmarks.operations.kills RECIPE STORE`.
"""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from flows.config.loading import load_recipe, load_site
from flows.evolve import evolve
from storage.artifacts.artifact import MANIFEST, read_manifest
from storage.remote.mirror import fetch, publish, sync
from tasks.orchestration.prefect import without_prefect

Digests = dict[str, str]


@dataclass
class Survived:
    """What kills did to a run; everything but `kills` and `finished` should be empty."""

    kills: int = 0
    finished: int = 0
    half: list[str] = field(default_factory=list)
    """Files of artifacts that were published and not whole when somebody looked after a kill."""
    changed: list[str] = field(default_factory=list)
    """Stored files, parts of drafts among them, that were gone or other bytes after a later start."""
    different: list[str] = field(default_factory=list)
    """Files of a finished run that differ from those of an uninterrupted run."""
    failed: list[str] = field(default_factory=list)
    """Output of commands that failed by themselves."""


def command(recipe: Path, store: str, *, with_prefect: bool) -> list[str]:
    """The command that is killed: the real one, or the loop without Prefect."""
    module = (
        ["flows", "run", str(recipe), "--store", store]
        if with_prefect
        else ["benchmarks.operations.kills", str(recipe), store]
    )
    return [sys.executable, "-m", *module]


@dataclass(frozen=True)
class Scene:
    """The setting in which a run is killed: how to start over, the command, and a reader's view of the store."""

    begin: Callable[[], list[str]]
    """Make a store with human text and no run, and say the command."""
    work: Path
    """Where the command works."""
    seen: Callable[[], Path]
    """A folder that holds what a reader of the store can see now."""


def folder_scene(begun: Path, work: Path, recipe: Path, *, with_prefect: bool) -> Scene:
    """A store that is a folder, copied from `begun`."""

    def begin() -> list[str]:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(begun, work)
        return command(recipe, str(work), with_prefect=with_prefect)

    return Scene(begin, work, lambda: work)


def bucket_scene(begun: Path, work: Path, url: str, recipe: Path) -> Scene:
    """A store in a bucket: its mirror is in `work`, and is read through another mirror, created for each check."""
    mirror, other, site = work / "mirror", work / "seen", work / "site.toml"
    places: list[str] = []

    def begin() -> list[str]:
        places.append(f"{url}/{len(places)}")
        shutil.rmtree(mirror, ignore_errors=True)
        sync(mirror, places[-1])
        for folder in sorted(path.parent for path in begun.rglob(MANIFEST)):
            target = mirror / folder.relative_to(begun)
            shutil.copytree(folder, target)
            publish(target, target)
        site.write_text(f'store = "{mirror}"\nstore_url = "{places[-1]}"\n')
        return [sys.executable, "-m", "benchmarks.operations.kills", str(recipe), "--site", str(site)]

    def seen() -> Path:
        shutil.rmtree(other, ignore_errors=True)
        sync(other, places[-1])
        for manifest in other.rglob(MANIFEST):
            fetch(manifest.parent, read_manifest(manifest.parent)["files"])
        return other

    return Scene(begin, mirror, seen)


def survive(scene: Scene, kills: int, seed: int) -> Survived:
    """Kill the command `kills` times; a run that finishes meanwhile is compared, and another one begun."""
    rng, survived = random.Random(seed), Survived()  # noqa: S311  (instants, not secrets)
    words = scene.begin()
    started = time.monotonic()
    _record_failure(subprocess.run(words, capture_output=True, text=True, check=False), survived)
    length = time.monotonic() - started
    undisturbed = published(scene.seen())
    words = scene.begin()
    before: Digests = {}
    unfinished = True
    while not survived.failed and (survived.kills < kills or unfinished):
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(words, stdout=output, stderr=output, text=True)
            try:
                process.wait(rng.uniform(0, length) if survived.kills < kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                survived.kills += 1
            else:
                output.seek(0)
                _record_failure(subprocess.CompletedProcess(words, process.returncode, "", output.read()), survived)
                survived.finished += 1
        survived.half += half(scene.seen())
        now = stored(scene.work)
        survived.changed += [name for name, digest in before.items() if now.get(name) != digest]
        before = now
        unfinished = process.returncode == -signal.SIGKILL
        if not unfinished:
            survived.different += sorted({name for name, _ in undisturbed.items() ^ published(scene.seen()).items()})
            words, before = scene.begin(), {}
    return survived


def stored(store: Path) -> Digests:
    """Digest of every part and published file of every run, by the name it has or will have when published."""
    found = {}
    for path in _data(store):
        place = path.relative_to(store)
        parts = [
            part.removeprefix(".").removesuffix(".draft") if part.endswith(".draft") else part for part in place.parts
        ]
        if "generation=" in str(place) and (path.suffix == ".parquet" or ".draft" not in str(place)):
            found["/".join(parts)] = _digest_but_speed(path)
    return found


def published(store: Path) -> Digests:
    """Digest of every file of every published artifact of every run."""
    return {name: digest for name, digest in stored(store).items() if (store / name).exists()}


def half(store: Path) -> list[str]:
    """Files that a manifest lists and that are not there, or differ from it."""
    wrong = []
    for manifest in store.glob(f"runs/*/generation=*/attempt=*/*/{MANIFEST}"):
        if not manifest.parent.name.startswith("."):
            for name, output in json.loads(manifest.read_text())["files"].items():
                path = manifest.parent / name
                if not path.exists() or _digest(path) != output["sha256"]:
                    wrong.append(str(path.relative_to(store)))
    return wrong


def _data(store: Path) -> list[Path]:
    """Files of runs without manifests, which contain times, and hidden files."""
    found = store.glob("runs/*/generation=*/attempt=*/**/*")
    return [path for path in found if path.is_file() and not path.name.startswith((".", "_"))]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_but_speed(path: Path) -> str:
    """Digest of a file; of a training's log without the tokens a second, which no two trainings share."""
    if path.suffix == ".parquet" and "tokens_per_second" in pq.read_schema(path).names:
        return hashlib.sha256(repr(pq.read_table(path).drop(["tokens_per_second"]).to_pylist()).encode()).hexdigest()
    return _digest(path)


def _record_failure(ended: subprocess.CompletedProcess[str], survived: Survived) -> None:
    if ended.returncode:
        survived.failed.append(f"exit {ended.returncode}: {ended.stderr[-2000:]}")


if __name__ == "__main__":
    _, file, *where = sys.argv
    with without_prefect():
        evolve(load_recipe(file), load_site(where[1], None) if where[0] == "--site" else load_site(None, where[0]))
