"""Whether a store is what it was when it was written: every file, every fingerprint, every parent, one line a fault.

Reads everything and changes nothing. What a live run is writing is no fault.
"""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.artifacts.artifact import MANIFEST, Artifact, ArtifactMissingError, read_manifest
from storage.artifacts.model_files import REMOVAL_NOTE, removed_weight_files
from storage.artifacts.tombstones import read_tombstones
from storage.files import file_info, manifest_digest
from storage.maintenance.erase import PENDING_MANIFEST
from storage.query.scan import require_store
from storage.remote.mirror import fetch
from storage.runs.run import Run, runs
from storage.runs.status import artifact_folders, attempt_numbers, is_human

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class VerifyReport:
    """What was looked at, and what is wrong with it."""

    artifacts: int
    files: int
    bytes: int
    without_weights: int
    """Models whose weights were removed on purpose."""
    errors: tuple[str, ...]
    """One sentence each: what is wrong, and what to do."""


@dataclass(frozen=True)
class _ArtifactCheck:
    folder: Path
    manifest: Mapping[str, Any] | None
    files: int
    bytes: int
    errors: list[str]


def verify(root: Path, only: Sequence[str] = (), on_progress: OnProgress = lambda *_: None) -> VerifyReport:
    """Examine a store, or the runs named in `only`.

    Raises:
        HeirloomError: there is no store at `root`, or no run of such a name.
    """
    require_store(root)
    for name in only:
        if not Run(root, name).exists():
            Run(root, name).recipe()
    folders = list(artifact_folders(root, only))
    examined: list[_ArtifactCheck] = []
    # Digests are computed without Python's lock, so threads use every core.
    with ThreadPoolExecutor(os.cpu_count()) as hands:
        for one in hands.map(_check_artifact, folders):
            examined.append(one)
            on_progress(len(examined), len(folders))
    faults = [fault for one in examined for fault in one.errors] + _store_errors(root)
    human = {_fingerprint(path.parent) for path in (root / "human").rglob(f"[!.]*/{MANIFEST}")}
    for run in runs(root):
        if not only or run.name in only:
            faults += [*_journal_errors(run), *_lineage_errors(run, examined, human)]
    return VerifyReport(
        len(examined),
        sum(one.files for one in examined),
        sum(one.bytes for one in examined),
        sum(bool(one.manifest and removed_weight_files(one.folder)) for one in examined),
        tuple(faults),
    )


def _check_artifact(folder: Path) -> _ArtifactCheck:
    remedy = _remedy(folder)
    try:
        manifest = read_manifest(folder)
        if manifest.get("manifest_digest") != manifest_digest(manifest):
            # What it lists is not to be believed either.
            return _ArtifactCheck(
                folder, None, 0, 0, [f"the manifest at {folder} has been changed since it was written; {remedy}"]
            )
        listed = manifest["files"]
        faults = list(_identity_errors(folder, manifest, remedy))
    except (ArtifactMissingError, KeyError, TypeError, AttributeError) as error:
        reason = f"{folder} has no {error} in its manifest" if isinstance(error, KeyError) else str(error)
        return _ArtifactCheck(folder, None, 0, 0, [reason if "upgrade" in reason else f"{reason}; {remedy}"])
    if (folder / PENDING_MANIFEST).exists():
        return _ArtifactCheck(
            folder, manifest, 0, 0, [f"{folder} is half rewritten; run heirloom erase --redact-files again"]
        )
    absent = removed_weight_files(folder)
    whole = [name for name in listed if name not in absent]
    try:
        # Of a mirrored store, what is only in the bucket comes here to be looked at.
        fetch(folder, {name: listed[name] for name in whole if not (folder / name).exists()})
    except ValueError as error:
        return _ArtifactCheck(folder, manifest, 0, 0, [str(error)])
    found = {name: list(_file_errors(folder / name, listed[name], remedy)) for name in whole}
    faults += [fault for some in found.values() for fault in some]
    faults += [
        f"{path} is not in the manifest of its artifact; look at it, and remove it"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
        if path.relative_to(folder).as_posix() not in {*listed, MANIFEST, REMOVAL_NOTE}
    ]
    tables = [folder / name for name in whole if name.endswith(".parquet")]
    if not any(found.values()) and (rows := sum(map(_rows, tables))) != manifest["rows"]:
        faults.append(f"{folder} holds {rows} rows, and its manifest says {manifest['rows']}; {remedy}")
    return _ArtifactCheck(folder, manifest, len(whole), sum(listed[name]["bytes"] for name in whole), faults)


def _identity_errors(folder: Path, manifest: Mapping[str, Any], remedy: str) -> Iterator[str]:
    if Artifact(folder, manifest["settings"], manifest["parents"]).fingerprint != manifest["fingerprint"]:
        yield f"{folder} does not have the fingerprint of its name, settings and parents; {remedy}"


def _file_errors(path: Path, listed: Mapping[str, Any], remedy: str) -> Iterator[str]:
    if not path.exists():
        yield f"{path} has vanished; {remedy}"
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


def _store_errors(root: Path) -> list[str]:
    try:
        read_tombstones(root)
    except ValueError as error:
        return [str(error)]
    return []


def _journal_errors(run: Run) -> Iterator[str]:
    try:
        run.recipe()
    except ArtifactMissingError as error:
        yield str(error)
    path = run.folder / "journal.jsonl"
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    live = bool(run.lock_holder())
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line or b"{}")
        except ValueError:
            # A live run may be in the middle of its last line.
            if not (live and number == len(lines)):
                yield f"line {number} of {path} is torn and does not count; remove it, and heirloom run says it again"
            continue
        verdict = run.folder / f"generation={entry.get('generation')}/attempt={entry.get('attempt')}/verdict"
        if entry.get("event") == "accepted" and not verdict.exists():
            yield f"{verdict} has vanished, and the journal says its generation was accepted; {_remedy(verdict)}"


def _lineage_errors(run: Run, examined: Sequence[_ArtifactCheck], human: set[str]) -> list[str]:
    """A parent is in the human text, in the same attempt, or in an earlier generation."""
    mine = [(one.folder, one.manifest) for one in examined if run.folder in one.folder.parents and one.manifest]
    orphans: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for folder, manifest in mine:
        generation, _ = attempt_numbers(folder.parent)
        known = human | {
            other.get("fingerprint")
            for place, other in mine
            if place.parent == folder.parent or attempt_numbers(place.parent)[0] < generation
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
    again = "heirloom ingest with the same documents" if human else f"heirloom run {folder.parts[-4]}"
    return f"restore it from a copy, or remove {folder} and let {again} make it anew"
