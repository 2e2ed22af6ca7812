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
from storage.artifacts.model_files import base_artifact_of, remove_weights, weight_files
from storage.files import folder_size
from storage.query.scan import require_store
from storage.remote import mirror
from storage.runs.run import Run, runs
from storage.runs.status import accepted_attempts, attempt_folders, attempt_numbers

_HOUR = 3600
"""Seconds without a change after which a draft that no lock speaks for is nobody's."""
_DAY = 24 * _HOUR


@dataclass(frozen=True)
class GcCandidate:
    """Something that can go, and why."""

    reason: str
    path: Path
    bytes: int
    run: Run | None
    """Whose it is; nobody's where None."""

    def delete(self) -> None:
        """Remove it; of a model the weights alone, which is written down.

        Raises:
            BusyError: its run is being written now.
        """
        with self.run.lock() if self.run else contextlib.nullcontext():
            if self.path.name == "model":
                remove_weights(self.path)
            else:
                mirror.remove(self.path)


def find_gc_candidates(root: Path, keep_models: int | None = None, rejected: bool = False) -> list[GcCandidate]:
    """What can go; weights only where `keep_models` says how many of the newest stay, rejected attempts only if asked.

    Raises:
        HeirloomError: there is no store at `root`.
    """
    require_store(root)
    idle = [run for run in runs(root) if not run.lock_holder()]
    found = [*find_stale_drafts(root), *_logs(root)]
    if rejected:
        found += [leftover for run in idle for leftover in _rejected(run)]
    if keep_models is not None:
        found += [leftover for run in idle for leftover in _old_weights(run, keep_models)]
    return found


def find_stale_drafts(root: Path) -> list[GcCandidate]:
    """Drafts that nobody is writing."""
    idle = (run for run in runs(root) if not run.lock_holder())
    return [*_nobodys(root), *(leftover for run in idle for leftover in _drafts(run))]


def remove_run(run: Run) -> None:
    """Remove a run with all its files.

    Raises:
        ArtifactMissingError: there is no such run.
        BusyError: it is being written.
    """
    run.recipe()
    hidden = run.folder.with_name(f".removed-{run.name}")
    if hidden.exists():
        shutil.rmtree(hidden)
    with run.lock():
        if mirror.bucket_for(run.folder):
            mirror.remove(run.folder)
            return
        # One rename, so that a run is whole or gone.
        run.folder.rename(hidden)
    shutil.rmtree(hidden)


def forks_of(run: Run) -> list[str]:
    """Names of the runs that were forked from this one."""
    return [other.name for other in runs(run.root) if other.forked_from().get("run") == run.name]


def _nobodys(root: Path) -> Iterator[GcCandidate]:
    for path in sorted((root / "runs").glob(".removed-*")):
        yield GcCandidate("left by a removal that was cut off", path, folder_size(path), None)
    for path in sorted([*(root / "human").glob("*/snapshot=*/.*.draft"), *(root / "runs").glob(".fork-*")]):
        if _quiet(path, _HOUR):
            yield GcCandidate("draft of an ingest or a fork that was cut off", path, folder_size(path), None)


def _logs(root: Path) -> Iterator[GcCandidate]:
    if not any(run.lock_holder() for run in runs(root)):
        for path in sorted((root / "logs").glob("*.log")):
            if _quiet(path, _DAY):
                yield GcCandidate("log of workers that ended", path, path.stat().st_size, None)


def _drafts(run: Run) -> Iterator[GcCandidate]:
    for folder in attempt_folders(run):
        for path in sorted(folder.glob(".*.draft")):
            yield GcCandidate("draft of a run that was cut off; going on makes it again", path, folder_size(path), run)


def _rejected(run: Run) -> Iterator[GcCandidate]:
    accepted = accepted_attempts(run)
    for folder in attempt_folders(run):
        if attempt_numbers(folder) not in accepted:
            yield GcCandidate("rejected attempt", folder, folder_size(folder), run)


def _old_weights(run: Run, keep: int) -> Iterator[GcCandidate]:
    models = [
        folder / "model"
        for folder in attempt_folders(run)
        if attempt_numbers(folder) in accepted_attempts(run) and (folder / "model" / MANIFEST).exists()
    ]
    for model in _removable(models, keep):
        if files := weight_files(model):
            size = sum((model / name).stat().st_size for name in files)
            yield GcCandidate("weights of an old model", model, size, run)


def _removable(models: Sequence[Path], keep: int) -> list[Path]:
    """All but the first, whose vocabulary every later one needs, the newest, which speaks next, and what adapters that stay lie on."""
    last = max(1, len(models) - max(1, keep))
    bases = {base_artifact_of(model) for model in (*models[:1], *models[last:])}
    return [model for model in models[1:last] if model.resolve() not in bases]


def _quiet(path: Path, seconds: int) -> bool:
    newest = max(one.stat().st_mtime for one in [path, *path.rglob("*")])
    return time.time() - newest > seconds
