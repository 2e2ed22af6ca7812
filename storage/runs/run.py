"""A run: its folder, the recipe it was begun with, its journal, and the lock that gives it one writer.

<root>/runs/<run>/run.json                  recipe as resolved, site, provenance
                  journal.jsonl             what was accepted, rejected, stopped, and why
                  generation=3/attempt=1/   excluded_records/ candidates/ decisions/ index/ corpus/ contamination_report/ model/ metrics/ verdict/
"""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import (
    FORMAT,
    Artifact,
    ArtifactMissingError,
    DriftError,
    check_format_version,
    differences,
)
from storage.artifacts.provenance import provenance
from storage.names import check_name
from storage.remote import mirror
from storage.remote.lease import LeaseHeldError, lease, lease_holder

_JournalValue = float | str | list[str]


class BusyError(HeirloomError):
    """Another process is writing this run."""


@dataclass(frozen=True)
class Run:
    """One run by its place."""

    root: Path
    name: str

    def __post_init__(self) -> None:
        """Refuse a name that is no folder name.

        Raises:
            HeirloomError: the name is empty or holds other characters than letters, digits, dot, dash, underscore.
        """
        check_name(self.name, "a run")

    @property
    def folder(self) -> Path:
        """Where everything of this run is."""
        return self.root / "runs" / self.name

    def initialize(
        self,
        recipe: Mapping[str, Any],
        mutable_fields: set[str],
        site: Mapping[str, Any],
        explicit_fields: Sequence[str] | None = None,
    ) -> None:
        """Write down what this run is, or check that it is still that; fields in `growing` may change, `said` never does.

        Raises:
            DriftError: the run was begun with another recipe.
        """
        self.check_drift(recipe, mutable_fields)
        path = self.folder / "run.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "recipe": recipe, "site": site, "provenance": provenance(), "written": time.time()}
        first = self._metadata() if self.exists() else {"explicit_fields": explicit_fields}
        content |= {name: first[name] for name in ("forked", "explicit_fields") if first.get(name) is not None}
        mirror.write_small(path, json.dumps(content, indent=1).encode())

    def check_drift(self, recipe: Mapping[str, Any], mutable_fields: set[str]) -> None:
        """Check that a run that was begun is still this recipe; fields in `growing` may differ.

        Raises:
            DriftError: it is another recipe; the message names the changed fields.
        """
        if not self.exists():
            return
        was, now = (
            {key: value for key, value in one.items() if key not in mutable_fields} for one in (self.recipe(), recipe)
        )
        if changed := differences(was, now, ""):
            raise DriftError(
                f"run {self.name} was begun with another recipe: {'; '.join(changed)}. "
                f"Give the new recipe a name of its own, or put the old values back"
            )

    def recipe(self) -> dict[str, Any]:
        """The recipe this run was begun with.

        Raises:
            ArtifactMissingError: there is no such run.
        """
        path = self.folder / "run.json"
        try:
            content = json.loads(path.read_text())
            recipe, found = content["recipe"], int(content.get("format", FORMAT))
        except FileNotFoundError as error:
            known = ", ".join(run.name for run in runs(self.root)) or "none yet"
            raise ArtifactMissingError(f"there is no run {self.name} in {self.root}; runs there: {known}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactMissingError(f"{path} cannot be read: {error}; restore it from a copy") from error
        check_format_version(found, path)
        return recipe

    def forked_from(self) -> dict[str, Any]:
        """`run` and `generation` that this run was forked from; empty for a run that began by itself."""
        return self._metadata().get("forked", {}) if self.exists() else {}

    def explicit_fields(self) -> list[str] | None:
        """Fields of the recipe that somebody had set when this run began; None of a run of an older Heirloom."""
        return self._metadata().get("explicit_fields")

    def _metadata(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "run.json").read_text()))

    def exists(self) -> bool:
        """Whether this run was ever started."""
        return (self.folder / "run.json").exists()

    def pin_snapshot(
        self,
        generation: int,
        attempt: int,
        latest_snapshot: Callable[[], int],
        eval_sets: Callable[[], list[str]] = list,
    ) -> int:
        """The snapshot of human text that an attempt uses: what the journal says, or the newest one from now on.

        With it are pinned the evaluation sets that the attempt knows; see `pinned_eval_sets`.
        """
        if (began := self.journal_entry("began", generation, attempt)) is None:
            began = {"snapshot": latest_snapshot(), "eval_sets": eval_sets()}
            self.append("began", generation, attempt, **began)
        return int(began["snapshot"])

    def pinned_eval_sets(self, generation: int, attempt: int) -> list[str]:
        """Names of the evaluation sets that were there when an attempt began."""
        return list((self.journal_entry("began", generation, attempt) or {}).get("eval_sets", []))

    def journal_entry(self, event: str, generation: int, attempt: int) -> dict[str, Any] | None:
        """What the journal says of such an event of an attempt."""
        for entry in self.journal():
            if (entry["event"], entry["generation"], entry["attempt"]) == (event, generation, attempt):
                return entry
        return None

    def append(self, event: str, generation: int, attempt: int, reason: str = "", **more: _JournalValue) -> None:
        """Append to the journal, once for each event of an attempt."""
        if self.journal_entry(event, generation, attempt):
            return
        place = {"generation": generation, "attempt": attempt}
        entry = {"time": time.time(), "event": event, **place, "reason": reason, **more}
        path = self.folder / "journal.jsonl"
        before = mirror.read_latest(path)
        # A line cut off by a crash must not swallow the one that follows it.
        cut_off = b"\n" * (before != b"" and not before.endswith(b"\n"))
        mirror.write_small(path, before + cut_off + json.dumps(entry).encode() + b"\n")

    def journal(self) -> list[dict[str, Any]]:
        """Every entry, oldest first; a line cut off by a crash does not count."""
        path = self.folder / "journal.jsonl"
        entries = []
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(json.JSONDecodeError):
                entries.append(json.loads(line))
        return entries

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer; the system frees the lock when its owner ends, however that ends.

        Raises:
            BusyError: somebody else is; the message says who, and since when.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+") as lock:
            try:
                _acquire(lock)
            except BlockingIOError as error:
                lock.seek(0)
                by = lock.read().strip() or "another process"
                raise BusyError(f"run {self.name} is being written by {by}") from error
            lock.truncate(0)
            who = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
            lock.write(f"{who}\n")
            lock.flush()
            try:
                with lease(self.folder / ".lock", who):
                    yield
            except LeaseHeldError as error:
                raise BusyError(f"run {self.name} is being written by {error}") from error

    def lock_holder(self) -> str:
        """Who is writing this run and since when; empty when nobody is, whatever a dead writer has left."""
        with contextlib.suppress(FileNotFoundError), (self.folder / ".lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "another process"
        return lease_holder(self.folder / ".lock")


def _acquire(lock: IO[str]) -> None:
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)  # whoever asks who is writing holds the lock for a moment
    return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def runs(root: Path) -> list[Run]:
    """Every run of a store, by name."""
    return [Run(root, path.parent.name) for path in sorted((root / "runs").glob("[!.]*/run.json"))]


@dataclass(frozen=True)
class Attempt:
    """One try at one generation of a run: where its artifacts go."""

    run: Run
    generation: int
    number: int = 1

    @property
    def folder(self) -> Path:
        """Where the artifacts of this attempt are."""
        return self.run.folder / f"generation={self.generation}" / f"attempt={self.number}"

    def artifact(self, name: str, settings: Mapping[str, Any], **parents: Artifact) -> Artifact:
        """The artifact of this name, made with these settings from these parents."""
        return Artifact(self.folder / name, settings, {key: parent.fingerprint for key, parent in parents.items()})

    def __str__(self) -> str:
        again = f", attempt {self.number}" if self.number > 1 else ""
        return f"{self.run.name} · generation {self.generation}{again}"
