"""Scan a store: read every manifest once and list runs, attempts, artifacts and human snapshots.

A run may grow or be removed during the scan: artifacts that are finished when their folder is read are listed, and a
run that was removed by then is left out.
"""

import glob
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heirloom.commands import suggest
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, ArtifactMissingError, Manifest, part_paths, read_manifest
from storage.artifacts.seals import TOMBSTONES_FILE
from storage.runs.judgements import JUDGEMENTS_FILE
from storage.runs.run import ForkedFrom, JournalEntry, Run, runs
from storage.runs.status import (
    AttemptKey,
    attempt_folders,
    attempt_numbers,
    human_folders,
    is_attempt,
    select_accepted,
)


@dataclass(frozen=True)
class ScannedRun:
    """One run: its recipe, its journal, and the manifests of every attempt by artifact name."""

    run: Run
    recipe: Mapping[str, Any]
    journal: Sequence[JournalEntry]
    attempts: Mapping[AttemptKey, Mapping[str, Manifest]]
    forked_from: ForkedFrom
    """Run and generation that this run was forked from; empty if it is no fork."""

    def accepted(self) -> set[AttemptKey]:
        """Return the accepted attempts, see `select_accepted`."""
        return select_accepted(self.attempts, self.journal)

    def folder(self, attempt_key: AttemptKey, name: str) -> Path:
        """Return the folder of an artifact of an attempt."""
        generation, attempt = attempt_key
        return self.run.folder / f"generation={generation}" / f"attempt={attempt}" / name

    def part_paths(self, name: str, accepted_only: bool) -> list[Path]:
        """Return every part of the artifacts of one name, oldest generation first."""
        selected = self.accepted() if accepted_only else set(self.attempts)
        return [
            part
            for attempt_key in sorted(selected)
            if name in self.attempts[attempt_key]
            for part in part_paths(self.folder(attempt_key, name), self.attempts[attempt_key][name])
        ]


@dataclass(frozen=True)
class StoreScan:
    """A whole store, or the selected runs of it."""

    root: Path
    runs: Sequence[ScannedRun]

    def part_paths(self, name: str, accepted_only: bool) -> list[Path]:
        """Return every part of the artifacts of one name, run by run."""
        return [part for run in self.runs for part in run.part_paths(name, accepted_only)]

    def human_part_paths(self, pattern: str) -> list[Path]:
        """Return every part of one kind of human artifact; `pattern` is below the dataset: `snapshot=*/human_train`."""
        folders = [Path(path).parent for path in _glob(self.root / "human", f"*/{pattern}/{MANIFEST}")]
        known = set(human_folders(self.root))
        return [part for folder in folders if folder.parent in known for part in part_paths(folder)]


def require_store(root: Path) -> None:
    """Check that a folder can be a store.

    Raises:
        HeirloomError: it does not exist, or it contains stores and is none itself, as the folder of `heirloom demo`.
    """
    if not root.is_dir():
        ingest = suggest("ingest", "SOURCE", "--name", "NAME")
        raise HeirloomError(f"There is no store at {root}. Create one with: {suggest('demo')}, or {ingest}")
    if any((root / name).exists() for name in ("runs", "human")):
        return
    if stores := [shlex.quote(str(path.parent)) for path in sorted(root.glob("*/runs"))]:
        raise HeirloomError(f"There is no store at {root}, but below it. Use --store {' or --store '.join(stores)}")


def scan_store(root: Path, only: Sequence[str] = ()) -> StoreScan:
    """Read every manifest of the store once, or those of the runs named in `only`.

    Raises:
        HeirloomError: there is no store at `root`.
        ArtifactMissingError: a run is incomplete: a file that a manifest lists is missing.
    """
    require_store(root)
    root = root.absolute()
    scanned = [_scan_run(run) for run in runs(root) if not only or run.name in only]
    return StoreScan(root, [run for run in scanned if run])


def store_state(root: Path) -> frozenset[tuple[str, int]]:
    """Return a value that changes whenever an artifact is finished or removed, or a journal or another list grows."""
    finished = _glob(root, f"runs/*/generation=*/attempt=*/*/{MANIFEST}") + _glob(root, f"human/*/*/*/{MANIFEST}")
    finished += _glob(root, f"human/*/eval_sets/*/*/{MANIFEST}")
    names = ("runs/*/journal.jsonl", f"runs/*/{JUDGEMENTS_FILE}", TOMBSTONES_FILE)
    append_only = [path for name in names for path in _glob(root, name)]
    journals = ((path, Path(path).stat().st_size) for path in append_only)
    return frozenset({*((path, 0) for path in finished), *journals})


def _scan_run(run: Run, retry: bool = True) -> ScannedRun | None:
    try:
        attempts: dict[AttemptKey, dict[str, Manifest]] = {
            attempt_numbers(folder): {} for folder in attempt_folders(run)
        }
        for path in _glob(run.folder, f"generation=*/attempt=*/*/{MANIFEST}"):
            folder = Path(path).parent
            if is_attempt(folder.parent):
                attempts.setdefault(attempt_numbers(folder.parent), {})[folder.name] = read_manifest(folder)
        scanned = ScannedRun(run, run.recipe(), run.journal(), attempts, run.forked_from())
        # Check that every listed part exists, so that a run that is being removed is noticed here.
        for name in {name for manifests in attempts.values() for name in manifests}:
            scanned.part_paths(name, accepted_only=False)
    except (ArtifactMissingError, FileNotFoundError):
        if not run.exists():
            return None
        if retry:
            return _scan_run(run, retry=False)
        raise
    return scanned


def _glob(folder: Path, pattern: str) -> list[str]:
    """Return the paths that match, sorted; hidden ones, which are drafts, do not match."""
    return sorted(glob.glob(f"{glob.escape(str(folder))}/{pattern}"))
