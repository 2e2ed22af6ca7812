"""Verify a store's integrity: file digests, fingerprints and parents. Reports one line per error.

Reads everything and changes nothing. Incomplete data of a run that is being written is not an error.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from heirloom.commands import suggest
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, Artifact, ArtifactMissingError, Manifest, read_manifest
from storage.artifacts.model_files import REMOVAL_NOTE, removed_weight_files
from storage.artifacts.parquet_io import DamagedError
from storage.artifacts.seals import JOURNAL, TOMBSTONES_FILE, begins_with, is_chained, line_digest
from storage.artifacts.tombstones import SEAL_FILE, read_tombstones
from storage.files import FileInfo, file_info, manifest_digest
from storage.maintenance.erase import PENDING_MANIFEST
from storage.names import is_name, number_of
from storage.query.scan import require_store
from storage.remote.mirror import fetch
from storage.runs.judgements import read_judgements
from storage.runs.run import Run, runs
from storage.runs.status import artifact_folders, attempt_folders, attempt_numbers, human_folders, is_human

OnProgress = Callable[[int, int], None]


_DECISIONS = ("accepted", "rejected", "stopped", "rolled_back")
_RESTORE = "restore it from a backup"


@dataclass(frozen=True)
class VerifyReport:
    """Totals of a verification, and its errors."""

    artifacts: int
    files: int
    bytes: int
    without_weights: int
    """Models whose weights were removed on purpose."""
    errors: tuple[str, ...]
    """One sentence each: the problem and the remedy."""


@dataclass(frozen=True)
class _ArtifactCheck:
    folder: Path
    manifest: Manifest | None
    files: int
    bytes: int
    errors: list[str]
    lacks_weights: bool = False


def verify(root: Path, only: Sequence[str] = (), on_progress: OnProgress = lambda *_: None) -> VerifyReport:
    """Verify a store, or the runs named in `only`; `on_progress` receives checked and total artifacts.

    Raises:
        HeirloomError: there is no store at `root`, or no run of such a name.
    """
    require_store(root)
    for name in only:
        if not Run(root, name).exists():
            Run(root, name).recipe()
    folders = list(artifact_folders(root, only))
    checks: list[_ArtifactCheck] = []
    # hashlib releases the GIL, so threads use every core.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for check in pool.map(_check_artifact, folders):
            checks.append(check)
            on_progress(len(checks), len(folders))
    errors = [error for check in checks for error in check.errors]
    errors += _tombstone_errors(root, checks)
    errors += [] if only else _stray_folders(root)
    human = {_fingerprint(path.parent) for path in (root / "human").rglob(f"[!.]*/{MANIFEST}")}
    for run in runs(root):
        if not only or run.name in only:
            errors += [
                *_journal_errors(run),
                *_seal_errors(run, checks),
                *_lineage_errors(run, checks, human),
            ]
    return VerifyReport(
        artifacts=len(checks),
        files=sum(check.files for check in checks),
        bytes=sum(check.bytes for check in checks),
        without_weights=sum(check.lacks_weights for check in checks),
        errors=tuple(errors),
    )


def _check_artifact(folder: Path) -> _ArtifactCheck:
    remedy = _remedy(folder)
    try:
        manifest = read_manifest(folder)
        if manifest.get("manifest_digest") != manifest_digest(manifest):
            # The list of files cannot be trusted either.
            return _ArtifactCheck(
                folder, None, 0, 0, [f"the manifest at {folder} has been changed since it was written; {remedy}"]
            )
        absent = removed_weight_files(folder)
    except ArtifactMissingError as error:
        reason = str(error)
        return _ArtifactCheck(folder, None, 0, 0, [reason if "upgrade" in reason else f"{reason}; {remedy}"])
    listed = manifest["files"]
    errors = list(_identity_errors(folder, manifest, remedy))
    if (folder / PENDING_MANIFEST).exists():
        return _ArtifactCheck(
            folder,
            manifest,
            0,
            0,
            [f"{folder} is partly rewritten; repeat `{suggest('erase', 'IDS', '--redact-files')}`"],
        )
    whole = [name for name in listed if name not in absent]
    try:
        # In a mirrored store, files that are only in the bucket are downloaded first.
        fetch(folder, {name: listed[name] for name in whole if not (folder / name).exists()})
    except HeirloomError as error:
        return _ArtifactCheck(folder, manifest, 0, 0, [str(error)])
    file_errors = [error for name in whole for error in _file_errors(folder / name, listed[name], remedy)]
    errors += file_errors
    errors += [
        f"{path} is not in the manifest of its artifact; check it, and remove it"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
        if path.relative_to(folder).as_posix() not in {*listed, MANIFEST, REMOVAL_NOTE}
    ]
    tables = [folder / name for name in whole if name.endswith(".parquet")]
    if not file_errors and (rows := sum(map(_rows, tables))) != manifest["rows"]:
        errors.append(f"{folder} holds {rows} rows, and its manifest lists {manifest['rows']}; {remedy}")
    size = sum(listed[name]["bytes"] for name in whole)
    return _ArtifactCheck(folder, manifest, len(whole), size, errors, lacks_weights=bool(absent))


def _identity_errors(folder: Path, manifest: Manifest, remedy: str) -> Iterator[str]:
    if Artifact(folder, manifest["settings"], manifest["parents"]).fingerprint != manifest["fingerprint"]:
        yield f"{folder} does not have the fingerprint of its name, settings and parents; {remedy}"


def _file_errors(path: Path, listed: FileInfo, remedy: str) -> Iterator[str]:
    if not path.exists():
        yield f"{path} is missing; {remedy}"
        return
    found = file_info(path)
    if found["bytes"] < listed["bytes"]:
        yield f"{path} is truncated: {found['bytes']:,} of {listed['bytes']:,} bytes; {remedy}"
    elif found != listed:
        yield f"{path} has other content than was written: its digest is not the one in the manifest; {remedy}"


def _rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowInvalid, OSError):
        return -1


def _stray_folders(root: Path) -> Iterator[str]:
    """Yield folders where runs, attempts and datasets are, and that are none: commands pass over them."""
    run_folders = {run.folder for run in runs(root)}
    attempts = {folder for run in runs(root) for folder in attempt_folders(run)}
    human = set(human_folders(root))
    for pattern, known in (
        ("runs/[!.]*", run_folders),
        ("runs/*/generation=*", {folder.parent for folder in attempts}),
        ("runs/*/generation=*/attempt=*", attempts),
        ("human/*/snapshot=*", human),
        ("human/*/eval_sets/[!.]*", human),
    ):
        for path in sorted(root.glob(pattern)):
            if path in known or not (path.is_dir() or path.is_symlink()):
                continue
            if path.is_symlink():
                yield f"{path} is a symbolic link, and ignored; replace it by the folder that it points to"
            elif path.parent == root / "runs" and not is_name(path.name):
                yield f"{path} is ignored: its name is not one of a run; rename or remove it"
            elif path.parent == root / "runs" and any(path.glob(f"generation=*/attempt=*/*/{MANIFEST}")):
                yield f"{path / 'run.json'} is missing, so the run is in no list; restore it from a backup"
            elif "=" in path.name and number_of(path.name, path.name.split("=")[0]) is None:
                yield f"{path} is ignored: its name does not end in a number; rename or remove it"
            elif path.parent.name == "eval_sets" and not is_name(path.name):
                yield f"{path} is ignored: its name is not one of an eval set; rename or remove it"


def _journal_errors(run: Run) -> Iterator[str]:
    try:
        run.recipe()
    except ArtifactMissingError as error:
        yield str(error)
    try:
        read_judgements(run.folder)
    except DamagedError as error:
        yield str(error)
    path = run.folder / JOURNAL
    lines = run.journal_lines()
    is_written = bool(run.lock_holder())
    previous = ""
    for number, (line, entry) in enumerate(lines, 1):
        if entry is None:
            # The writer of a run may be in the middle of its last line.
            if not (is_written and number == len(lines)):
                yield f"line {number} of {path} is no entry, and ignored; remove it, and heirloom run repeats it"
        elif entry["previous"] != previous:
            yield (
                f"line {number} of {path} does not follow the line before it: a line was added, changed or removed; "
                f"{_RESTORE}"
            )
        if is_chained(line):
            previous = line_digest(line)
        if entry is None:
            continue
        verdict = run.folder / f"generation={entry.get('generation')}/attempt={entry.get('attempt')}/verdict"
        if entry.get("event") == "accepted" and not verdict.exists():
            yield f"{verdict} is missing, and its generation is accepted in the journal; {_remedy(verdict)}"


def _seal_errors(run: Run, checks: Sequence[_ArtifactCheck]) -> Iterator[str]:
    """Yield what was lost from, or changed in, the files that describe a run."""
    lines = run.journal_lines()
    known = {"", *(line_digest(line) for line, _ in lines)}
    decided = {(entry["generation"], entry["attempt"]) for _, entry in lines if entry and entry["event"] in _DECISIONS}
    # Artifacts of a fork's first generations have the seals of the run that they come from.
    inherited = -1
    # A `run.json` that cannot be read is named elsewhere.
    with contextlib.suppress(ArtifactMissingError):
        inherited = run.forked_from().get("generation", -1)
        configured = {entry.get("sha256") for _, entry in lines if entry and entry["event"] == "configured"}
        if line_digest((run.folder / "run.json").read_bytes()) not in configured:
            yield f"{run.folder / 'run.json'} has been changed since it was written; {_RESTORE}"
    attempts = sorted({attempt_numbers(check.folder.parent) for check in checks if run.folder in check.folder.parents})
    lost: list[Path] = []
    for check in checks:
        if run.folder not in check.folder.parents or not check.manifest:
            continue
        key = attempt_numbers(check.folder.parent)
        if key[0] > inherited and check.manifest["seals"]["journal"] not in known:
            lost.append(check.folder)
        # The newest attempt may have been interrupted, or wait for its review.
        if check.folder.name == "verdict" and key != attempts[-1] and key not in decided:
            yield f"{check.folder} has no entry in {run.folder / JOURNAL} that accepts or rejects it; {_RESTORE}"
    if lost:
        yield (
            f"{run.folder / JOURNAL} has lost entries that were there when {lost[0]} was written"
            f"{f', and {len(lost) - 1} more artifacts' if lost[1:] else ''}; {_RESTORE}"
        )


def _tombstone_errors(root: Path, checks: Sequence[_ArtifactCheck]) -> Iterator[str]:
    path = root / TOMBSTONES_FILE
    try:
        hashes = {tombstone.text_hash for tombstone in read_tombstones(root)}
    except DamagedError as error:
        yield str(error)
        return
    content = path.read_bytes() if path.exists() else b""
    if content and not (root / SEAL_FILE).exists():
        yield f"{root / SEAL_FILE} is missing, so a loss of {TOMBSTONES_FILE} would not show; {_RESTORE}"
    manifests = [(check.folder, check.manifest) for check in checks if check.manifest]
    for folder, manifest in manifests:
        sealed = manifest["seals"]["tombstones"]
        redacted = {text_hash for entry in manifest.get("redacted", []) for text_hash in entry["text_hashes"]}
        if (sealed and not begins_with(content, sealed)) or redacted - hashes:
            yield f"{path} has lost lines that were there when {folder} was written, so texts can come back; {_RESTORE}"
            return


def _lineage_errors(run: Run, checks: Sequence[_ArtifactCheck], human: set[str]) -> list[str]:
    """Return artifacts with unknown parents: one must be in a dataset, the same attempt or an earlier generation."""
    artifacts = [
        (check.folder, check.manifest) for check in checks if run.folder in check.folder.parents and check.manifest
    ]
    orphans: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for folder, manifest in artifacts:
        generation, _ = attempt_numbers(folder.parent)
        known = human | {
            other.get("fingerprint")
            for other_folder, other in artifacts
            if other_folder.parent == folder.parent or attempt_numbers(other_folder.parent)[0] < generation
        }
        for name, fingerprint in manifest.get("parents", {}).items():
            if fingerprint not in known:
                orphans[name, fingerprint].append(folder)
    return [
        f"{name} {fingerprint}, a parent of {folders[0]}{f' and {len(folders) - 1} more' if folders[1:] else ''}, "
        f"is missing or changed; restore it from a copy"
        for (name, fingerprint), folders in orphans.items()
    ]


def _fingerprint(folder: Path) -> str:
    try:
        return str(read_manifest(folder)["fingerprint"])
    except (ArtifactMissingError, KeyError):
        return ""


def _remedy(folder: Path) -> str:
    human = is_human(folder)
    command = "heirloom ingest with the same documents" if human else suggest("run", folder.parts[-4])
    return f"restore it from a copy, or remove {folder} and let {command} create it again"
