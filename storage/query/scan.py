"""What a store holds, by one reading of its manifests: runs, attempts, artifacts, human snapshots.

A run may grow or be removed while it is read: what is finished when its folder is read is listed, and a run
that has gone by then is not there.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, ArtifactMissingError, part_paths, read_manifest
from storage.artifacts.tombstones import TOMBSTONES_FILE
from storage.runs.run import Run, runs

Manifest = Mapping[str, Any]
AttemptKey = tuple[int, int]
"""Generation and attempt."""


@dataclass(frozen=True)
class ScannedRun:
    """One run: its recipe, its journal, and the manifests of every attempt by the artifact's name."""

    run: Run
    recipe: Mapping[str, Any]
    journal: Sequence[Mapping[str, Any]]
    attempts: Mapping[AttemptKey, Mapping[str, Manifest]]
    forked_from: Mapping[str, Any]
    """Run and generation that this run was forked from, if it was."""

    def accepted(self) -> set[AttemptKey]:
        """Attempts that count: the newest of each generation that the journal does not call rejected."""
        rejected = {(entry["generation"], entry["attempt"]) for entry in self.journal if entry["event"] == "rejected"}
        newest = dict(sorted(set(self.attempts) - rejected))
        return set(newest.items())

    def folder(self, attempted: AttemptKey, name: str) -> Path:
        """Where an artifact of an attempt is."""
        return self.run.folder / f"generation={attempted[0]}" / f"attempt={attempted[1]}" / name

    def part_paths(self, name: str, accepted_only: bool) -> list[Path]:
        """Every part of the artifacts of one name, oldest generation first."""
        counted = self.accepted() if accepted_only else set(self.attempts)
        return [
            part
            for attempted in sorted(counted)
            if name in self.attempts[attempted]
            for part in part_paths(self.folder(attempted, name), self.attempts[attempted][name])
        ]


@dataclass(frozen=True)
class StoreScan:
    """A whole store, or the runs of it that were asked for."""

    root: Path
    runs: Sequence[ScannedRun]

    def part_paths(self, name: str, accepted_only: bool) -> list[Path]:
        """Every part of the artifacts of one name, run by run."""
        return [part for run in self.runs for part in run.part_paths(name, accepted_only)]

    def human_part_paths(self, pattern: str) -> list[Path]:
        """Every part of one kind of human artifact, by its place below the name: `snapshot=*/human_train`, for one."""
        folders = [Path(path).parent for path in _found(self.root / "human", f"*/{pattern}/{MANIFEST}")]
        return [part for folder in folders for part in part_paths(folder)]


def require_store(root: Path) -> None:
    """Check that a folder can be a store.

    Raises:
        HeirloomError: it is not there, or it holds stores and is none itself, as the demo leaves it.
    """
    if not root.is_dir():
        raise HeirloomError(f"there is no store at {root}; make one with: heirloom demo, or heirloom ingest")
    if not any((root / name).exists() for name in ("runs", "human")) and (below := sorted(root.glob("*/runs"))):
        raise HeirloomError(
            f"there is no store at {root}, but below it: say --store {' or --store '.join(str(one.parent) for one in below)}"
        )


def scan_store(root: Path, only: Sequence[str] = ()) -> StoreScan:
    """Read every manifest of the store once; of the runs named in `only`, if any are.

    Raises:
        HeirloomError: there is no store at `root`.
        ArtifactMissingError: a run that is there cannot be read whole.
    """
    require_store(root)
    root = root.absolute()
    read = [_read(run) for run in runs(root) if not only or run.name in only]
    return StoreScan(root, [run for run in read if run])


def store_state(root: Path) -> frozenset[tuple[str, int]]:
    """What tells one state of the store from another: which artifacts are finished, and how long the journals are."""
    finished = _found(root, f"runs/*/generation=*/attempt=*/*/{MANIFEST}") + _found(root, f"human/*/*/*/{MANIFEST}")
    finished += _found(root, f"human/*/eval_sets/*/*/{MANIFEST}")
    growing = _found(root, "runs/*/journal.jsonl") + _found(root, TOMBSTONES_FILE)
    journals = ((path, Path(path).stat().st_size) for path in growing)
    return frozenset({*((path, 0) for path in finished), *journals})


def _read(run: Run, again: bool = True) -> ScannedRun | None:
    try:
        attempts: dict[AttemptKey, dict[str, Manifest]] = {
            _numbers(Path(path)): {} for path in _found(run.folder, "generation=*/attempt=*")
        }
        for path in _found(run.folder, f"generation=*/attempt=*/*/{MANIFEST}"):
            folder = Path(path).parent
            attempts.setdefault(_numbers(folder.parent), {})[folder.name] = read_manifest(folder)
        listed = ScannedRun(run, run.recipe(), run.journal(), attempts, run.forked_from())
        for name in {name for made in attempts.values() for name in made}:
            listed.part_paths(name, accepted_only=False)
    except (ArtifactMissingError, FileNotFoundError):
        if not run.exists():
            return None
        if again:
            return _read(run, again=False)
        raise
    return listed


def _found(folder: Path, pattern: str) -> list[str]:
    """Paths that match, in order; what is hidden, and so not finished, does not."""
    return sorted(glob.glob(f"{glob.escape(str(folder))}/{pattern}"))


def _numbers(attempt: Path) -> AttemptKey:
    return int(attempt.parent.name.split("=")[1]), int(attempt.name.split("=")[1])
