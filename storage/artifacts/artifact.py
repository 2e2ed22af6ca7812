"""Artifacts: folders that are absent or finished, each with a manifest of how it was made.

Data is written to a hidden draft next to the final folder and published by one rename after everything in it is on
the disk. The manifest is written last. A fingerprint identifies the content of an artifact: its name, the settings
that affect it, and the fingerprints of its parents. Provenance (where and when it was made) is recorded in the
manifest and is not part of the fingerprint.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from heirloom.errors import HeirloomError, one_line
from heirloom.settings import first_mistake
from storage.artifacts.parquet_io import read_parquet, write_parquet
from storage.artifacts.provenance import Provenance, provenance
from storage.artifacts.seals import Seals, seals_of
from storage.artifacts.tombstones import drop_rows, tombstoned_hashes
from storage.files import FileInfo, atomic_file, file_info, fsync, manifest_digest
from storage.names import first_link, is_inner_path
from storage.remote import mirror

MANIFEST = "_manifest.json"


class Redaction(TypedDict):
    """Texts that were removed from an artifact after it was finished."""

    time: float
    rows: int
    text_hashes: list[str]


class Manifest(TypedDict):
    """How an artifact was made, and the files that it consists of."""

    format: int
    name: str
    fingerprint: str
    settings: Mapping[str, object]
    parents: dict[str, str]
    rows: int
    files: dict[str, FileInfo]
    facts: dict[str, Any]
    """Counts and costs, as JSON values; each kind of artifact has its own."""
    started: float
    finished: float
    provenance: Provenance
    seals: Seals
    manifest_digest: NotRequired[str]
    redacted: NotRequired[list[Redaction]]


_MANIFEST_TYPE = TypeAdapter(Manifest)

FORMAT = 4
"""Version of the store's layout; raised whenever an older Heirloom could not read the new one."""


class DriftError(HeirloomError):
    """A finished artifact has other settings or parents than the requested one; the message names the differences."""


class ArtifactMissingError(HeirloomError):
    """A required artifact does not exist, or files of it are missing."""


@dataclass(frozen=True)
class Artifact:
    """One artifact, identified by its folder, settings and parents."""

    folder: Path
    settings: Mapping[str, object]
    parents: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the artifacts that this one was made from, by name."""

    @property
    def name(self) -> str:
        """Kind of the artifact, which is the name of its folder."""
        return self.folder.name

    @property
    def fingerprint(self) -> str:
        """Short hash of name, settings and parents."""
        identity = {"name": self.name, "settings": self.settings, "parents": dict(self.parents)}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def ensure_local(self) -> Path:
        """Return the folder after downloading the files that are only in the bucket, if the store is on object storage.

        Raises:
            ArtifactMissingError: the artifact is not finished, or a file that the manifest lists is missing.
        """
        _ensure_files(self.folder, read_manifest(self.folder)["files"])
        return self.folder

    def exists(self) -> bool:
        """Return whether this artifact is finished.

        Raises:
            DriftError: the folder holds an artifact with another fingerprint.
        """
        if not (self.folder / MANIFEST).exists():
            return False
        manifest = read_manifest(self.folder)
        if manifest["fingerprint"] != self.fingerprint:
            raise DriftError(f"{self.folder} was made differently: {'; '.join(self._differences(manifest))}")
        return True

    @contextlib.contextmanager
    def draft(self) -> Iterator["Draft"]:
        """Yield a draft to write to; it is published when the block ends, and kept for a retry after an error."""
        folder = self.folder.with_name(f".{self.name}.draft")
        if folder.exists() and _draft_of(folder) != self.fingerprint:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _DRAFT_OF).write_text(self.fingerprint)
        # A process killed between writing the manifest and the rename leaves one behind.
        (folder / MANIFEST).unlink(missing_ok=True)
        draft = Draft(folder)
        yield draft
        self._publish(draft)

    def copy_from(self, source: Path) -> None:
        """Copy the files of a finished artifact with the same fingerprint; raises DriftError if it has another one."""
        manifest = read_manifest(source)
        if manifest["fingerprint"] != self.fingerprint:
            raise DriftError(f"{source} differs from {self.folder}: {'; '.join(self._differences(manifest))}")
        _ensure_files(source, manifest["files"])
        with self.draft() as draft:
            for name in manifest["files"]:
                target = draft.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                shutil.copyfile(source / name, target)
            draft.rows = manifest["rows"]
            draft.facts = {**manifest["facts"], "copied_from": manifest["provenance"]["command"]}

    def _publish(self, draft: "Draft") -> None:
        manifest: Manifest = {
            "format": FORMAT,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "parents": dict(self.parents),
            "rows": draft.rows,
            "files": {path.relative_to(draft.folder).as_posix(): file_info(path) for path in _files(draft.folder)},
            "facts": draft.facts,
            "started": draft.started,
            "finished": time.time(),
            "provenance": provenance(),
            "seals": seals_of(self.folder),
        }
        (draft.folder / MANIFEST).write_text(
            json.dumps({**manifest, "manifest_digest": manifest_digest(manifest)}, indent=1)
        )
        for written in _files(draft.folder):
            fsync(written)
        fsync(draft.folder)
        mirror.publish(draft.folder, self.folder)
        draft.folder.rename(self.folder)
        (self.folder / _DRAFT_OF).unlink()
        fsync(self.folder.parent)

    def _differences(self, manifest: Manifest) -> list[str]:
        return [
            *differences(manifest["settings"], self.settings, "settings"),
            *differences(manifest["parents"], self.parents, "parents"),
        ]


@dataclass
class Draft:
    """An artifact being written."""

    folder: Path
    rows: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    """Costs and counts for the manifest."""
    started: float = field(default_factory=time.time)

    def num_parts(self) -> int:
        """Return the number of parts that an interrupted draft has finished, and set `rows` to their rows."""
        paths = self._part_paths()
        self.rows = sum(pq.read_metadata(path).num_rows for path in paths)
        return len(paths)

    def read(self, schema: pa.Schema) -> pa.Table:
        """Return the rows of the finished parts, in order, with the columns of `schema`."""
        tables = [pq.read_table(path, columns=schema.names) for path in self._part_paths()]
        return pa.concat_tables([schema.empty_table(), *tables])

    def _part_paths(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def write_part(self, table: pa.Table, number: int = 0) -> None:
        """Write one numbered part atomically."""
        with atomic_file(self.folder / f"part-{number:05d}.parquet") as hidden:
            write_parquet(table, hidden)
        self.rows += table.num_rows


_DRAFT_OF = ".draft_of"


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a finished artifact; it can come from a stranger, so it is checked.

    Raises:
        ArtifactMissingError: there is no finished artifact, it was written in another format, its manifest is damaged,
            or it lists a file outside of the artifact.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        raise ArtifactMissingError(f"there is no finished artifact at {folder}") from error
    return parse_manifest(content, folder)


def parse_manifest(content: bytes, folder: Path) -> Manifest:
    """Return the manifest with this content of the artifact at `folder`; raises as `read_manifest`."""
    try:
        found = json.loads(content)
        version = int(found["format"])
    except KeyError as error:
        raise ArtifactMissingError(f"the manifest at {folder} cannot be read: it has no {error}") from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ArtifactMissingError(f"the manifest at {folder} cannot be read: {one_line(error)}") from error
    check_format_version(version, folder)
    try:
        _MANIFEST_TYPE.validate_python(found, strict=True)
    except ValidationError as error:
        raise ArtifactMissingError(f"the manifest at {folder} is damaged at {first_mistake(error)}") from error
    # The manifest as it was read, since its digest covers all of it.
    manifest: Manifest = found
    for name in manifest["files"]:
        if not is_inner_path(name):
            raise ArtifactMissingError(
                f"the manifest at {folder} lists {name!r}, which is not a path inside of the artifact; nothing of this "
                "artifact is read"
            )
        if link := first_link(folder.parent, f"{folder.name}/{name}"):
            raise ArtifactMissingError(
                f"{link} is a symbolic link, which no artifact contains; nothing of this artifact is read"
            )
    return manifest


def check_format_version(version: int, path: Path) -> None:
    """Check the format of an artifact or run.

    Raises:
        ArtifactMissingError: the format is not the one that this version reads and writes.
    """
    if version > FORMAT:
        raise ArtifactMissingError(
            f"{path} has format {version}, this Heirloom reads format {FORMAT}; upgrade Heirloom"
        )
    if version < FORMAT:
        raise ArtifactMissingError(
            f"{path} has format {version}, this Heirloom reads format {FORMAT}; make the store again with this version"
        )


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all parts of a finished tabular artifact as one table, without rows that have a tombstone."""
    return pa.concat_tables(list(iter_tables(folder, columns)))


def iter_tables(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield each part of a finished tabular artifact as `read_table` returns them together; none is read ahead."""
    paths = part_paths(folder)
    erased = tombstoned_hashes(folder)
    if not len(erased) or "text_hash" not in pq.read_schema(paths[0]).names:
        yield from (read_parquet(path, columns) for path in paths)
        return
    columns_read = None if columns is None else list(dict.fromkeys([*columns, "text_hash"]))
    for path in paths:
        table = drop_rows(read_parquet(path, columns_read), erased)
        yield table if columns is None else table.select(list(columns))


def part_paths(folder: Path, manifest: Manifest | None = None) -> list[Path]:
    """Return every part of a finished tabular artifact, in order; pass its manifest if it was read already.

    Raises:
        ArtifactMissingError: the artifact is not finished, or a part that the manifest lists is missing.
    """
    files = (manifest or read_manifest(folder))["files"]
    listed = {name: info for name, info in files.items() if name.endswith(".parquet")}
    _ensure_files(folder, listed)
    return [folder / name for name in sorted(listed)]


def differences(before: object, now: object, path: str) -> list[str]:
    """Return the differences between two JSON values, one sentence per field."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [*before, *(key for key in now if key not in before)]
        return [
            line
            for key in keys
            for line in differences(before.get(key), now.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if before == now else [f"{path} was {json.dumps(before)}, is now {json.dumps(now)}"]


def _ensure_files(folder: Path, files: Mapping[str, FileInfo]) -> None:
    absent = [name for name in sorted(files) if not (folder / name).exists()]
    if not absent:
        return
    mirror.fetch(folder, {name: files[name] for name in absent})
    if missing := [name for name in absent if not (folder / name).exists()]:
        raise ArtifactMissingError(
            f"{folder} is missing {', '.join(missing)}. "
            f"Restore the files, or delete the folder to recompute the artifact."
        )


def _draft_of(folder: Path) -> str:
    return path.read_text() if (path := folder / _DRAFT_OF).exists() else ""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def load_artifact(folder: Path) -> Artifact:
    """Return a finished artifact with the settings and parents of its manifest, independent of any current recipe."""
    manifest = read_manifest(folder)
    return Artifact(folder, manifest["settings"], manifest["parents"])
