"""Find the tables that contain a text and the records derived from it, and redact it from the tables.

Redaction is the only edit of published artifacts, for withdrawn licenses and requests of persons. The manifest records
it; the fingerprint is unchanged, so the run stays valid. Models and reports are not changed.
"""

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, Redaction, parse_manifest, part_paths, read_manifest
from storage.artifacts.parquet_io import read_parquet, write_parquet
from storage.artifacts.tombstones import drop_rows, read_tombstones, to_string_array
from storage.files import file_info, fsync, manifest_digest
from storage.maintenance.gc import find_stale_drafts
from storage.runs.run import BusyError, Run
from storage.runs.status import artifact_folders, is_human

PENDING_MANIFEST = ".redacted.json"
"""Next manifest of an artifact during redaction: if it exists, the new parts are complete."""

_TEXT_TABLES = ("human_train", "human_heldout", "records", "candidates", "corpus")
"""Artifacts with texts and their hashes."""
_SKETCH_TABLES = ("index", "human_train_index")
"""Artifacts with sketches of texts and their hashes."""


@dataclass(frozen=True)
class RecordLocation:
    """An artifact that contains the texts, contained them until a redaction, or contains records derived from them."""

    folder: Path
    records: int
    redacted: int
    """Texts that a redaction removed from it."""
    descendants: int

    @property
    def trained_model(self) -> Path | None:
        """The model that was trained on the artifact, if it is a corpus with a model."""
        model = self.folder.with_name("model")
        return model if self.folder.name == "corpus" and (model / MANIFEST).exists() else None


def find_text_hashes(root: Path, ids: Sequence[str]) -> dict[str, str]:
    """Return the text hash of every id; `RUN/ID` names a candidate whose id several runs use.

    Raises:
        HeirloomError: there is no such record, or an id stands for different texts in different runs.
    """
    erased = {tombstone.id: tombstone.text_hash for tombstone in read_tombstones(root)}
    runs_by_hash: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in _tables(root):
        run = "" if is_human(folder) else folder.parts[-4]
        names = {name: name.removeprefix(f"{run}/") for name in ids if name not in erased}
        table = _read_stored(folder, ["id", "text_hash"])
        table = table.filter(pc.is_in(table["id"], value_set=to_string_array(names.values())))
        hashes = dict(zip(table["id"].to_pylist(), table["text_hash"].to_pylist(), strict=True))
        for name, record_id in names.items():
            if record_id in hashes:
                runs_by_hash[name][hashes[record_id]] = run
    for name in ids:
        if name not in erased and not runs_by_hash[name]:
            raise HeirloomError(f"There is no record {name} in {root}. Ids are in the view `records`.")
        if len(runs_by_hash[name]) > 1:
            choices = ", ".join(f"{run}/{name}" for run in sorted(runs_by_hash[name].values()))
            raise HeirloomError(f"{name} is a different text in several runs. Choose one of: {choices}")
    return {name: erased.get(name) or next(iter(runs_by_hash[name])) for name in ids}


def find_locations(root: Path, text_hashes: Sequence[str]) -> tuple[list[RecordLocation], dict[str, str]]:
    """Return the artifacts that concern these texts, and the text hashes of derived candidates by `RUN/ID`.

    Derived candidates are those whose prompts used one of the texts, or used another derived candidate.
    """
    erased = to_string_array(text_hashes)
    affected_ids: dict[str, set[str]] = defaultdict(set)
    descendants: dict[str, str] = {}
    locations = []
    # Datasets come first and the generations of a run in order, so parents are processed before their children.
    for folder in _tables(root):
        run = folder.parts[-4]
        human = is_human(folder)
        candidates = folder.name == "candidates"
        table = _read_stored(folder, ["id", "text_hash", *(["parents"] if candidates else [])])
        matches = pc.is_in(table["text_hash"], value_set=erased)
        if candidates:
            parents = table["parents"].combine_chunks()
            sources = to_string_array(affected_ids[""] | affected_ids[run])
            from_source = pc.is_in(parents.flatten(), value_set=sources)
            rows = pc.unique(pc.list_parent_indices(parents).filter(from_source)).cast(pa.int64())
            derived = pc.and_not(pc.is_in(pa.array(range(len(table))), value_set=rows), matches)
        else:
            derived = pc.and_not(pc.is_in(table["id"], value_set=to_string_array(affected_ids[run])), matches)
        affected_ids["" if human else run] |= {*table.filter(matches)["id"].to_pylist()}
        if candidates:
            children = table.filter(derived)
            affected_ids[run] |= {*children["id"].to_pylist()}
            for record_id, text_hash in zip(children["id"].to_pylist(), children["text_hash"].to_pylist(), strict=True):
                descendants[f"{run}/{record_id}"] = text_hash
        redactions = read_manifest(folder).get("redacted", [])
        redacted = {text_hash for redaction in redactions for text_hash in redaction["text_hashes"]}
        location = RecordLocation(folder, _count(matches), len(redacted & set(text_hashes)), _count(derived))
        if location.records or location.redacted or location.descendants:
            locations.append(location)
    return locations, descendants


def redact(root: Path, text_hashes: Sequence[str]) -> tuple[int, int]:
    """Remove the texts from every table; returns the number of rewritten artifacts and of removed rows.

    An interrupted redaction is completed first. Abandoned drafts are deleted, since they may contain the texts; they
    are recreated when the run is resumed.

    Raises:
        BusyError: a run that contains one of the texts is being written; nothing was rewritten.
    """
    for draft in find_stale_drafts(root):
        with contextlib.suppress(BusyError):
            draft.delete()
    for folder in artifact_folders(root):
        if (folder / PENDING_MANIFEST).exists():
            _finish_redaction(folder)
    erased = to_string_array(text_hashes)
    ids = _ids_by_parent_folder(root, erased)
    artifacts = rows = 0
    with contextlib.ExitStack() as locks:
        for name in sorted({parent.parts[-3] for parent in ids if parent.name.startswith("attempt=")}):
            locks.enter_context(Run(root, name).lock())
        for parent, record_ids in ids.items():
            for folder in (parent / name for name in (*_TEXT_TABLES, *_SKETCH_TABLES, "embeddings")):
                if not (folder / MANIFEST).exists():
                    continue
                removed = _redact(folder, erased, to_string_array(record_ids))
                artifacts += removed > 0
                rows += removed
    return artifacts, rows


def _ids_by_parent_folder(root: Path, erased: pa.Array) -> dict[Path, set[str]]:
    """Return the ids of the records with these hashes by the folder of their attempt, snapshot or eval set."""
    ids: dict[Path, set[str]] = defaultdict(set)
    for folder in _tables(root, (*_TEXT_TABLES, *_SKETCH_TABLES)):
        table = _read_stored(folder, ["id", "text_hash"])
        ids[folder.parent] |= set(table.filter(pc.is_in(table["text_hash"], value_set=erased))["id"].to_pylist())
    return {parent: record_ids for parent, record_ids in ids.items() if record_ids}


def _tables(root: Path, names: Sequence[str] = _TEXT_TABLES) -> Iterator[Path]:
    for folder in artifact_folders(root):
        if folder.name in names:
            yield folder


def _read_stored(folder: Path, columns: list[str]) -> pa.Table:
    """Return all stored rows, including those with a tombstone."""
    return pa.concat_tables([read_parquet(path, columns) for path in part_paths(folder)])


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _redact(folder: Path, erased: pa.Array, ids: pa.Array) -> int:
    """Remove rows by text hash, or by id in tables without one; returns how many."""
    manifest = read_manifest(folder)
    removed = 0
    removed_hashes: set[str] = set()
    for path in part_paths(folder):
        table = read_parquet(path)
        has_hashes = "text_hash" in table.column_names
        kept = drop_rows(table, erased) if has_hashes else table.filter(pc.invert(pc.is_in(table["id"], value_set=ids)))
        if len(kept) == len(table):
            continue
        if has_hashes:
            removed_hashes |= {*pc.unique(table["text_hash"]).to_pylist()} & {*erased.to_pylist()}
        hidden = folder / f".{path.name}"
        write_parquet(kept, hidden)
        fsync(hidden)
        manifest["files"][path.name] = file_info(hidden)
        removed += len(table) - len(kept)
    if not removed:
        return 0
    manifest["rows"] -= removed
    redaction: Redaction = {"time": time.time(), "rows": removed, "text_hashes": sorted(removed_hashes)}
    manifest["redacted"] = [*manifest.get("redacted", []), redaction]
    (folder / PENDING_MANIFEST).write_text(
        json.dumps({**manifest, "manifest_digest": manifest_digest(manifest)}, indent=1)
    )
    fsync(folder / PENDING_MANIFEST)
    fsync(folder)
    _finish_redaction(folder)
    return removed


def _finish_redaction(folder: Path) -> None:
    """Replace the old parts and then the manifest by the new ones; safe to repeat after a killed process."""
    listed = parse_manifest((folder / PENDING_MANIFEST).read_bytes(), folder)["files"]
    for hidden in sorted(folder.glob(".part-*.parquet")):
        if file_info(hidden) == listed.get(hidden.name[1:]):
            hidden.rename(folder / hidden.name[1:])
    (folder / PENDING_MANIFEST).rename(folder / MANIFEST)
    fsync(folder)
