"""A run: its folder, its recipe, its journal, and a lock that allows one writer at a time.

<root>/runs/<run>/run.json                  resolved recipe, site, provenance
                  journal.jsonl             append-only list of events: started, accepted, rejected, stopped, ...
                  generation=3/attempt=1/   excluded_records/ candidates/ decisions/ index/ corpus/
                                            contamination_report/ model/ metrics/ verdict/
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from heirloom.errors import HeirloomError, did_you_mean, one_line
from heirloom.settings import first_mistake
from storage.artifacts.artifact import (
    FORMAT,
    Artifact,
    ArtifactMissingError,
    DriftError,
    check_format_version,
    differences,
)
from storage.artifacts.provenance import Provenance, provenance
from storage.artifacts.seals import JOURNAL, newest_digest
from storage.names import check_name, is_name
from storage.remote import mirror
from storage.remote.lease import LeaseHeldError, lease, lease_holder

_JournalValue = float | str | list[str]


class ForkedFrom(TypedDict, total=False):
    """Run, and its last generation, that a run was forked from; empty if it is no fork."""

    run: str
    generation: int


class JournalEntry(TypedDict):
    """One event of a run."""

    time: float
    event: str
    generation: int
    attempt: int
    reason: str
    snapshot: NotRequired[int]
    eval_sets: NotRequired[list[str]]
    human_fraction: NotRequired[float]
    records: NotRequired[int]
    decision: NotRequired[Literal["accept", "redo", "stop"]]
    rejected_ids: NotRequired[list[str]]
    deadline: NotRequired[float]
    flow_run: NotRequired[str]
    sha256: NotRequired[str]
    """Digest of `run.json`, of the event `configured`."""
    previous: str
    """Digest of the line before this one, so that the removal or change of a line shows."""


_ENTRY_TYPE = TypeAdapter(JournalEntry)


class _Metadata(TypedDict):
    """Content of `run.json`."""

    format: NotRequired[int]
    recipe: dict[str, Any]
    """JSON values of `flows.config.recipe.Recipe`, which validates them."""
    site: NotRequired[Mapping[str, object]]
    provenance: Provenance
    written: float
    forked: NotRequired[ForkedFrom]
    explicit_fields: NotRequired[list[str] | None]


_METADATA_TYPE = TypeAdapter(_Metadata)


class BusyError(HeirloomError):
    """Another process is writing this run."""


@dataclass(frozen=True)
class Run:
    """One run, identified by the store and its name."""

    root: Path
    name: str

    def __post_init__(self) -> None:
        """Check the name.

        Raises:
            HeirloomError: the name contains other characters than letters, digits, dots, dashes and underscores.
        """
        check_name(self.name, "a run")

    @property
    def folder(self) -> Path:
        """Folder of this run."""
        return self.root / "runs" / self.name

    def initialize(
        self,
        recipe: Mapping[str, object],
        mutable_fields: set[str],
        site: Mapping[str, object],
        explicit_fields: Sequence[str] | None = None,
    ) -> None:
        """Write `run.json`, or update it if the run exists and its recipe differs in `mutable_fields` only.

        Args:
            recipe: the resolved recipe.
            mutable_fields: top-level recipe fields that may change while a run exists.
            site: settings of the machine, recorded for provenance.
            explicit_fields: recipe fields that the user set; the value of the first call is kept.

        Raises:
            DriftError: the run was started with another recipe.
        """
        self.check_drift(recipe, mutable_fields)
        path = self.folder / "run.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "recipe": recipe, "site": site, "provenance": provenance(), "written": time.time()}
        previous = self._metadata() if self.exists() else {"explicit_fields": explicit_fields}
        content |= {name: previous[name] for name in ("forked", "explicit_fields") if previous.get(name) is not None}
        if self.exists() and (previous["recipe"], previous.get("site")) == (content["recipe"], content["site"]):
            return
        encoded = json.dumps(content, indent=1).encode()
        # First the entry: killed in between, `run.json` is as an earlier entry has it.
        self._append_line(configured_entry(encoded))
        mirror.write_small(path, encoded)

    def check_drift(self, recipe: Mapping[str, object], mutable_fields: set[str]) -> None:
        """Check that a run, if it exists, was started with this recipe; `mutable_fields` may differ.

        Raises:
            DriftError: the recipe differs; the message names the changed fields.
        """
        if not self.exists():
            return
        stored = {key: value for key, value in self.recipe().items() if key not in mutable_fields}
        current = {key: value for key, value in recipe.items() if key not in mutable_fields}
        if changes := differences(stored, current, ""):
            raise DriftError(
                f"Run {self.name} was started with another recipe: {'; '.join(changes)}. "
                f"Give the new recipe another name, or restore the old values."
            )

    def recipe(self) -> dict[str, Any]:
        """Return the recipe that this run was started with.

        Raises:
            ArtifactMissingError: there is no such run, or `run.json` cannot be read.
        """
        if not self.exists():
            known = [run.name for run in runs(self.root)]
            raise ArtifactMissingError(
                f"There is no run {self.name} in {self.root}.{did_you_mean(self.name, known)} "
                f"Runs: {', '.join(known) or 'none yet'}"
            )
        return self._metadata()["recipe"]

    def forked_from(self) -> ForkedFrom:
        """Return `run` and `generation` that this run was forked from, or an empty dict."""
        return self._metadata().get("forked", {}) if self.exists() else {}

    def explicit_fields(self) -> list[str] | None:
        """Return the recipe fields that the user had set when this run was started; None if they were not recorded."""
        return self._metadata().get("explicit_fields")

    def _metadata(self) -> _Metadata:
        path = self.folder / "run.json"
        try:
            found = json.loads(path.read_bytes())
            version = int(found.get("format", FORMAT))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ArtifactMissingError(f"Cannot read {path}: {one_line(error)}. Restore it from a backup.") from error
        check_format_version(version, path)
        try:
            _METADATA_TYPE.validate_python(found)
        except ValidationError as error:
            raise ArtifactMissingError(
                f"Cannot read {path}: {first_mistake(error)}. Restore it from a backup."
            ) from error
        metadata: _Metadata = found
        return metadata

    def exists(self) -> bool:
        """Return whether this run was ever started."""
        return (self.folder / "run.json").exists()

    def pin_snapshot(
        self,
        generation: int,
        attempt: int,
        latest_snapshot: Callable[[], int],
        eval_sets: Callable[[], list[str]] = list,
    ) -> int:
        """Return the human snapshot of an attempt; the first call pins the latest one in the journal.

        The event `started` that the first call appends also pins the eval sets; see `pinned_eval_sets`.
        """
        if entry := self.journal_entry("started", generation, attempt):
            return entry["snapshot"]
        snapshot = latest_snapshot()
        self.append("started", generation, attempt, snapshot=snapshot, eval_sets=eval_sets())
        return snapshot

    def pinned_eval_sets(self, generation: int, attempt: int) -> list[str]:
        """Return the names of the eval sets that existed when an attempt was started."""
        entry = self.journal_entry("started", generation, attempt)
        return entry.get("eval_sets", []) if entry else []

    def journal_entry(self, event: str, generation: int, attempt: int) -> JournalEntry | None:
        """Return the journal entry of an event of an attempt, or None."""
        for entry in self.journal():
            if (entry["event"], entry["generation"], entry["attempt"]) == (event, generation, attempt):
                return entry
        return None

    def append(self, event: str, generation: int, attempt: int, reason: str = "", **values: _JournalValue) -> None:
        """Append an entry to the journal; does nothing if this event of the attempt is in it already."""
        if self.journal_entry(event, generation, attempt):
            return
        self._append_line({"event": event, "generation": generation, "attempt": attempt, "reason": reason, **values})

    def _append_line(self, values: Mapping[str, object]) -> None:
        path = self.folder / JOURNAL
        content = mirror.read_latest(path)
        if content and not content.endswith(b"\n"):
            # A crash truncated the last line: end it, so that it does not swallow the next one.
            content += b"\n"
        mirror.write_small(path, content + chained_line(values, newest_digest(content)))

    def journal(self) -> list[JournalEntry]:
        """Return every entry, oldest first; a line that a crash truncated, or that is no entry, is skipped."""
        return [entry for _, entry in self.journal_lines() if entry]

    def journal_lines(self) -> list[tuple[bytes, JournalEntry | None]]:
        """Return every line that is not empty, and its entry; None if it has none."""
        path = self.folder / JOURNAL
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        return [(line, _parse_entry(line)) for line in lines if line.strip()]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the exclusive lock of a writer; the operating system frees it when the process ends, even if killed.

        Uses `flock` itself and not the package filelock: the lock file also holds the description of its holder, and
        `lock_holder` tests it with a shared lock, which works in a read-only store and which filelock does not offer.

        Raises:
            BusyError: another process holds the lock; the message names it and the time since when.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a+") as lock:
            try:
                _acquire(lock)
            except BlockingIOError as error:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                raise BusyError(f"run {self.name} is being written by {holder}") from error
            lock.truncate(0)
            holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
            lock.write(f"{holder}\n")
            lock.flush()
            try:
                with lease(self.folder / ".lock", holder):
                    yield
            except LeaseHeldError as error:
                raise BusyError(f"run {self.name} is being written by {error}") from error

    def lock_holder(self) -> str:
        """Describe the process that is writing this run; empty if none is, also if a killed writer left its file."""
        with contextlib.suppress(FileNotFoundError), (self.folder / ".lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "another process"
        return lease_holder(self.folder / ".lock")


def configured_entry(metadata: bytes) -> dict[str, object]:
    """Return the values of the journal entry that seals this content of `run.json`."""
    sha256 = hashlib.sha256(metadata).hexdigest()
    return {"event": "configured", "generation": 0, "attempt": 0, "reason": "", "sha256": sha256}


def chained_line(values: Mapping[str, object], previous: str) -> bytes:
    """Return a journal line with these values, the time, and the digest of the line before it."""
    return json.dumps({"time": time.time(), **values, "previous": previous}).encode() + b"\n"


def _parse_entry(line: bytes) -> JournalEntry | None:
    try:
        entry = json.loads(line)
        _ENTRY_TYPE.validate_python(entry, strict=True)
    except (ValueError, RecursionError):
        return None
    parsed: JournalEntry = entry
    return parsed


def _acquire(lock: IO[str]) -> None:
    # `lock_holder` in another process holds the shared lock for a moment, so one failed try does not mean a writer.
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def runs(root: Path) -> list[Run]:
    """Return every run of a store, sorted by name.

    Folders with other names than those of runs are left out, and so are symbolic links, which can lead out of the
    store. `heirloom verify` names them.
    """
    folders = [path.parent for path in sorted((root / "runs").glob("[!.]*/run.json"))]
    return [Run(root, folder.name) for folder in folders if is_name(folder.name) and not folder.is_symlink()]


@dataclass(frozen=True)
class Attempt:
    """One attempt at one generation of a run."""

    run: Run
    generation: int
    number: int = 1

    @property
    def folder(self) -> Path:
        """Folder of the artifacts of this attempt."""
        return self.run.folder / f"generation={self.generation}" / f"attempt={self.number}"

    def artifact(self, name: str, settings: Mapping[str, object], **parents: Artifact) -> Artifact:
        """Return the artifact of this name in this attempt, with these settings and parents."""
        return Artifact(self.folder / name, settings, {key: parent.fingerprint for key, parent in parents.items()})

    def __str__(self) -> str:
        attempt = f", attempt {self.number}" if self.number > 1 else ""
        return f"{self.run.name} · generation {self.generation}{attempt}"
