"""What piles up in a store and can go: drafts of dead runs, weights of old models, rejected attempts, old logs.

Nothing of a run that is being written is touched, nor the weights of generation 0 and of the newest generations.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.artifacts.artifact import MANIFEST
from storage.artifacts.files import bytes_of
from storage.artifacts.model_files import base_below, remove_weights, weight_files
from storage.query.scan import require_store
from storage.remote import mirror
from storage.runs.run import Run, runs
from storage.runs.status import accepted_attempts, attempt_folders, attempt_numbers

_HOUR = 3600
"""Seconds without a change after which a draft that no lock speaks for is nobody's."""
_DAY = 24 * _HOUR


@dataclass(frozen=True)
class Leftover:
    """Something that can go, and why."""

    why: str
    place: Path
    bytes: int
    run: Run | None
    """Whose it is; nobody's where None."""

    def clear(self) -> None:
        """Remove it; of a model the weights alone, which is written down.

        Raises:
            BusyError: its run is being written now.
        """
        with self.run.lock() if self.run else contextlib.nullcontext():
            if self.place.name == "model":
                remove_weights(self.place)
            else:
                mirror.remove(self.place)


def find_leftovers(root: Path, keep_models: int | None = None, rejected: bool = False) -> list[Leftover]:
    """What can go; weights only where `keep_models` says how many of the newest stay, rejected attempts only if asked.

    Raises:
        ValueError: there is no store at `root`.
    """
    require_store(root)
    idle = [run for run in runs(root) if not run.writer()]
    found = [*find_drafts(root), *_logs(root)]
    if rejected:
        found += [leftover for run in idle for leftover in _rejected(run)]
    if keep_models is not None:
        found += [leftover for run in idle for leftover in _old_weights(run, keep_models)]
    return found


def find_drafts(root: Path) -> list[Leftover]:
    """Drafts that nobody is writing."""
    idle = (run for run in runs(root) if not run.writer())
    return [*_nobodys(root), *(leftover for run in idle for leftover in _drafts(run))]


def remove_run(run: Run) -> None:
    """Remove a run with all its files.

    Raises:
        AbsentError: there is no such run.
        BusyError: it is being written.
    """
    run.recipe()
    hidden = run.folder.with_name(f".removed-{run.name}")
    if hidden.exists():
        shutil.rmtree(hidden)
    with run.lock():
        if mirror.bucket_of(run.folder):
            mirror.remove(run.folder)
            return
        # One rename, so that a run is whole or gone.
        run.folder.rename(hidden)
    shutil.rmtree(hidden)


def forks_of(run: Run) -> list[str]:
    """Names of the runs that were forked from this one."""
    return [other.name for other in runs(run.root) if other.forked().get("run") == run.name]


def _nobodys(root: Path) -> Iterator[Leftover]:
    for path in sorted((root / "runs").glob(".removed-*")):
        yield Leftover("left by a removal that was cut off", path, bytes_of(path), None)
    for path in sorted([*(root / "human").glob("*/snapshot=*/.*.draft"), *(root / "runs").glob(".fork-*")]):
        if _quiet(path, _HOUR):
            yield Leftover("draft of an ingest or a fork that was cut off", path, bytes_of(path), None)


def _logs(root: Path) -> Iterator[Leftover]:
    if not any(run.writer() for run in runs(root)):
        for path in sorted((root / "logs").glob("*.log")):
            if _quiet(path, _DAY):
                yield Leftover("log of workers that ended", path, path.stat().st_size, None)


def _drafts(run: Run) -> Iterator[Leftover]:
    for folder in attempt_folders(run):
        for path in sorted(folder.glob(".*.draft")):
            yield Leftover("draft of a run that was cut off; going on makes it again", path, bytes_of(path), run)


def _rejected(run: Run) -> Iterator[Leftover]:
    accepted = accepted_attempts(run)
    for folder in attempt_folders(run):
        if attempt_numbers(folder) not in accepted:
            yield Leftover("rejected attempt", folder, bytes_of(folder), run)


def _old_weights(run: Run, keep: int) -> Iterator[Leftover]:
    models = [
        folder / "model"
        for folder in attempt_folders(run)
        if attempt_numbers(folder) in accepted_attempts(run) and (folder / "model" / MANIFEST).exists()
    ]
    for model in _removable(models, keep):
        if files := weight_files(model):
            size = sum((model / name).stat().st_size for name in files)
            yield Leftover("weights of an old model", model, size, run)


def _removable(models: Sequence[Path], keep: int) -> list[Path]:
    """All but the first, whose vocabulary every later one needs, the newest, which speaks next, and what adapters that stay lie on."""
    last = max(1, len(models) - max(1, keep))
    bases = {base_below(model) for model in (*models[:1], *models[last:])}
    return [model for model in models[1:last] if model.resolve() not in bases]


def _quiet(path: Path, seconds: int) -> bool:
    newest = max(one.stat().st_mtime for one in [path, *path.rglob("*")])
    return time.time() - newest > seconds
