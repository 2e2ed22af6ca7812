"""Where a text lies and what was made from it; and taking it out of the tables that hold it.

Rewriting is the one edit of what was published, for licenses that are withdrawn and people who ask. The
manifest says that it was done; its fingerprint, and so the run, stays. Models and reports stay as they are.
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
from storage.artifacts.artifact import MANIFEST, part_paths, read_manifest
from storage.artifacts.parquet_io import read_parquet, write_parquet
from storage.artifacts.tombstones import drop_rows, read_tombstones, to_string_array
from storage.files import file_info, fsync, manifest_digest
from storage.maintenance.gc import find_stale_drafts
from storage.runs.run import BusyError, Run
from storage.runs.status import artifact_folders, is_human

PENDING_MANIFEST = ".redacted.json"
"""The next manifest of an artifact that is being rewritten: its parts are ready when this is there."""

_HOLDING = ("human_train", "human_heldout", "records", "candidates", "corpus")
"""Artifacts with a digest for every text."""
_SKETCHED = ("index", "human_train_index")
"""Artifacts with a digest for every text that they hold no more than a sketch of."""


@dataclass(frozen=True)
class RecordLocation:
    """An artifact that holds texts, held them until it was rewritten, or holds records that they prompted."""

    folder: Path
    records: int
    redacted: int
    """Texts that were in it once."""
    descendants: int

    @property
    def trained_model(self) -> Path | None:
        """The model that learned from it, where it is a corpus that one has learned from."""
        model = self.folder.with_name("model")
        return model if self.folder.name == "corpus" and (model / MANIFEST).exists() else None


def find_text_hashes(root: Path, ids: Sequence[str]) -> dict[str, str]:
    """Digest of the text of every id; a candidate's may be told as `RUN/ID`, and must be where two runs have it.

    Raises:
        HeirloomError: there is no such record, or an id means different texts in different runs.
    """
    buried = {one.id: one.text_hash for one in read_tombstones(root)}
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for folder in _holding(root):
        run = "" if is_human(folder) else folder.parts[-4]
        names = {name: name.removeprefix(f"{run}/") for name in ids if name not in buried}
        table = _raw(folder, ["id", "text_hash"])
        table = table.filter(pc.is_in(table["id"], value_set=to_string_array(names.values())))
        here = dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
        for name, identity in names.items():
            if identity in here:
                found[name][here[identity]] = run
    for name in ids:
        if name not in buried and not found[name]:
            raise HeirloomError(f"there is no record {name} in {root}; ids are in the view records")
        if len(found[name]) > 1:
            told = ", ".join(f"{run}/{name}" for run in sorted(found[name].values()))
            raise HeirloomError(f"{name} is another text in each of several runs; say which: {told}")
    return {name: buried.get(name) or next(iter(found[name])) for name in ids}


def find_locations(root: Path, text_hashes: Sequence[str]) -> tuple[list[RecordLocation], dict[str, str]]:
    """Where texts lie, and the digests of the candidates they prompted, or that those did, by `RUN/ID`."""
    gone = to_string_array(text_hashes)
    tainted: dict[str, set[str]] = defaultdict(set)
    descendants: dict[str, str] = {}
    sights = []
    # Human text first, and a run's generations in order, so that parents are known before their children.
    for folder in _holding(root):
        run = folder.parts[-4]
        human = is_human(folder)
        candidates = folder.name == "candidates"
        table = _raw(folder, ["id", "text_hash", *(["parents"] if candidates else [])])
        hit = pc.is_in(table["text_hash"], value_set=gone)
        seeds = tainted[""] | tainted[run]
        if candidates:
            parents = table["parents"].combine_chunks()
            of = pc.is_in(parents.flatten(), value_set=to_string_array(seeds))
            places = pc.unique(pc.list_parent_indices(parents).filter(of))
            prompted = pc.and_not(pc.is_in(pa.array(range(len(table))), value_set=places.cast(pa.int64())), hit)
        else:
            prompted = pc.and_not(pc.is_in(table["id"], value_set=to_string_array(tainted[run])), hit)
        tainted["" if human else run] |= {*table.filter(hit)["id"].to_pylist()}
        if candidates:
            children = table.filter(prompted)
            tainted[run] |= {*children["id"].to_pylist()}
            for identity, digest in zip(children["id"].to_pylist(), children["text_hash"].to_pylist(), strict=True):
                descendants[f"{run}/{identity}"] = digest
        once = {digest for told in read_manifest(folder).get("redacted", []) for digest in told["text_hashes"]}
        sight = RecordLocation(folder, _count(hit), len(once & set(text_hashes)), _count(prompted))
        if sight.records or sight.redacted or sight.descendants:
            sights.append(sight)
    return sights, descendants


def redact(root: Path, text_hashes: Sequence[str]) -> tuple[int, int]:
    """Take the texts out of every table; returns how many artifacts were rewritten, and how many rows went.

    A rewriting that was cut off is brought to its end first. Drafts that nobody is writing go too: they may hold
    the texts, and are made again.

    Raises:
        BusyError: a run that holds one is being written; nothing was rewritten.
    """
    for leftover in find_stale_drafts(root):
        with contextlib.suppress(BusyError):
            leftover.delete()
    for folder in artifact_folders(root):
        if (folder / PENDING_MANIFEST).exists():
            _finish_redaction(folder)
    gone = to_string_array(text_hashes)
    ids = _ids_by_place(root, gone)
    artifacts = rows = 0
    with contextlib.ExitStack() as locks:
        for name in sorted({place.parts[-3] for place in ids if place.name.startswith("attempt=")}):
            locks.enter_context(Run(root, name).lock())
        for place, names in ids.items():
            for folder in (place / name for name in (*_HOLDING, *_SKETCHED, "embeddings")):
                if (folder / MANIFEST).exists() and (fewer := _redact(folder, gone, to_string_array(names))):
                    artifacts, rows = artifacts + 1, rows + fewer
    return artifacts, rows


def _ids_by_place(root: Path, gone: pa.Array) -> dict[Path, set[str]]:
    """Ids of the records with these digests, by the attempt or snapshot that holds them."""
    ids: dict[Path, set[str]] = defaultdict(set)
    for folder in _holding(root, (*_HOLDING, *_SKETCHED)):
        table = _raw(folder, ["id", "text_hash"])
        ids[folder.parent] |= set(table.filter(pc.is_in(table["text_hash"], value_set=gone))["id"].to_pylist())
    return {place: names for place, names in ids.items() if names}


def _holding(root: Path, names: Sequence[str] = _HOLDING) -> Iterator[Path]:
    for folder in artifact_folders(root):
        if folder.name in names:
            yield folder


def _raw(folder: Path, columns: list[str]) -> pa.Table:
    """The rows as they are stored, with those that were forgotten."""
    return pa.concat_tables([read_parquet(path, columns) for path in part_paths(folder)])


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _redact(folder: Path, gone: pa.Array, ids: pa.Array) -> int:
    manifest = read_manifest(folder)
    fewer, went = 0, set[str]()
    for path in part_paths(folder):
        table = read_parquet(path)
        by_digest = "text_hash" in table.column_names
        kept = drop_rows(table, gone) if by_digest else table.filter(pc.invert(pc.is_in(table["id"], value_set=ids)))
        if len(kept) == len(table):
            continue
        if by_digest:
            went |= {*pc.unique(table["text_hash"]).to_pylist()} & {*gone.to_pylist()}
        hidden = folder / f".{path.name}"
        write_parquet(kept, hidden)
        fsync(hidden)
        manifest["files"][path.name] = file_info(hidden)
        fewer += len(table) - len(kept)
    if not fewer:
        return 0
    manifest["rows"] -= fewer
    told = {"time": time.time(), "rows": fewer, "text_hashes": sorted(went)}
    manifest["redacted"] = [*manifest.get("redacted", []), told]
    (folder / PENDING_MANIFEST).write_text(
        json.dumps({**manifest, "manifest_digest": manifest_digest(manifest)}, indent=1)
    )
    fsync(folder / PENDING_MANIFEST)
    fsync(folder)
    _finish_redaction(folder)
    return fewer


def _finish_redaction(folder: Path) -> None:
    """Put the new parts and then the new manifest in the place of the old ones; may be done again after a kill."""
    listed = json.loads((folder / PENDING_MANIFEST).read_text())["files"]
    for hidden in sorted(folder.glob(".part-*.parquet")):
        if file_info(hidden) == listed.get(hidden.name[1:]):
            hidden.rename(folder / hidden.name[1:])
    (folder / PENDING_MANIFEST).rename(folder / MANIFEST)
    fsync(folder)
