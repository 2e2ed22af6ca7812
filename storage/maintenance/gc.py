"""Garbage collection: abandoned drafts, weights of old models, rejected attempts, old logs.

Runs that are being written are left alone, and so are the weights of generation 0 and of the newest generations.
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
"""Seconds without a change after which a draft that no lock protects counts as abandoned."""
_DAY = 24 * _HOUR


@dataclass(frozen=True)
class GcCandidate:
    """Files that can be deleted, and the reason."""

    reason: str
    path: Path
    bytes: int
    run: Run | None
    """Run that the files belong to, if any."""

    def delete(self) -> None:
        """Delete the files; of a model only the weights, with a note.

        Raises:
            BusyError: the run is being written.
        """
        with self.run.lock() if self.run else contextlib.nullcontext():
            if self.path.name == "model":
                remove_weights(self.path)
            else:
                mirror.remove(self.path)


def find_gc_candidates(root: Path, keep_models: int | None = None, rejected: bool = False) -> list[GcCandidate]:
    """Return the files that can be deleted.

    Args:
        root: the store.
        keep_models: keep the weights of this many of the newest models of a run; None keeps all.
        rejected: include rejected attempts.

    Raises:
        HeirloomError: there is no store at `root`.
    """
    require_store(root)
    idle = [run for run in runs(root) if not run.lock_holder()]
    candidates = [*find_stale_drafts(root), *_old_logs(root)]
    for run in idle:
        if rejected:
            candidates += _rejected_attempts(run)
    for run in idle:
        if keep_models is not None:
            candidates += _old_weights(run, keep_models)
    return candidates


def find_stale_drafts(root: Path) -> list[GcCandidate]:
    """Return the drafts that no process is writing."""
    candidates = list(_abandoned_folders(root))
    for run in runs(root):
        if not run.lock_holder():
            candidates += _drafts(run)
    return candidates


def remove_run(run: Run) -> None:
    """Delete a run with all its files.

    Raises:
        ArtifactMissingError: there is no such run.
        BusyError: the run is being written.
    """
    run.recipe()
    hidden = run.folder.with_name(f".removed-{run.name}")
    if hidden.exists():
        shutil.rmtree(hidden)
    with run.lock():
        if mirror.bucket_for(run.folder):
            mirror.remove(run.folder)
            return
        # One rename, so that the run is either complete or gone.
        run.folder.rename(hidden)
    shutil.rmtree(hidden)


def forks_of(run: Run) -> list[str]:
    """Return the names of the runs that were forked from this one."""
    return [other.name for other in runs(run.root) if other.forked_from().get("run") == run.name]


def _abandoned_folders(root: Path) -> Iterator[GcCandidate]:
    for path in sorted((root / "runs").glob(".removed-*")):
        yield GcCandidate("left by an interrupted removal", path, folder_size(path), None)
    for path in sorted([*(root / "human").glob("*/snapshot=*/.*.draft"), *(root / "runs").glob(".fork-*")]):
        if _unchanged_for(path, _HOUR):
            yield GcCandidate("draft of an interrupted ingest or fork", path, folder_size(path), None)


def _old_logs(root: Path) -> Iterator[GcCandidate]:
    if not any(run.lock_holder() for run in runs(root)):
        for path in sorted((root / "logs").glob("*.log")):
            if _unchanged_for(path, _DAY):
                yield GcCandidate("log of finished workers", path, path.stat().st_size, None)


def _drafts(run: Run) -> Iterator[GcCandidate]:
    for folder in attempt_folders(run):
        for path in sorted(folder.glob(".*.draft")):
            yield GcCandidate("draft of an interrupted run; resuming recreates it", path, folder_size(path), run)


def _rejected_attempts(run: Run) -> Iterator[GcCandidate]:
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
    """Return the models whose weights may go, of the accepted models in order.

    Kept are the first model, whose tokenizer every later one needs, the newest `keep` (at least one, which generates
    next), and the base models of kept adapters.
    """
    last = max(1, len(models) - max(1, keep))
    bases = {base_artifact_of(model) for model in (*models[:1], *models[last:])}
    return [model for model in models[1:last] if model.resolve() not in bases]


def _unchanged_for(path: Path, seconds: int) -> bool:
    newest = max(child.stat().st_mtime for child in [path, *path.rglob("*")])
    return time.time() - newest > seconds
