"""Documents to the human reserve and the held-out set: read, cut, dropped where they repeat, split, published.

A snapshot is never edited. Ingesting more adds the next one, which holds the records of the one before. Records
lie on disk between the steps, in buckets of their digest, so that memory does not grow with the source.
"""

import contextlib
import hashlib
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation.splitting import IngestSettings
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, ArtifactMissingError, Draft, DriftError, part_paths, read_manifest
from storage.artifacts.schemas import HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.artifacts.tombstones import read_tombstones, to_string_array
from storage.datasets.eval_sets import list_eval_sets
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.index.partitioned_scratch import discard, scratch
from storage.names import check_name
from storage.readers.base import Block, SourceFile
from storage.readers.discovery import find_files, read_sources
from storage.readers.formats import JSON_LINES_SUFFIXES
from storage.runs.run import Attempt
from tasks.ingestion.dedup import find_duplicates
from tasks.ingestion.read import ScratchTables, index_previous_keys, input_columns, read_blocks
from tasks.ingestion.split import SIDES, PartWriter, existing_split_by_group, split_and_write
from tasks.orchestration.parallel import parallel_map
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import progress

_FEWEST = {"human_train": 20, "human_heldout": 5}


@task
def ingest(root: Path, name: str, sources: Sequence[str], settings: IngestSettings) -> dict[str, Artifact]:
    """Publish the next snapshot, or return the newest one if the same documents made it.

    Raises:
        HeirloomError: a source cannot be read, or too little is left to train on or to measure with.
        BusyError: another process ingests under this name.
    """
    check_name(name, "a dataset")
    listed = [(source, find_files(source)) for source in sources]
    with progress(name, "ingest") as told, scratch(root / "human" / name / ".ingest") as folder:
        before = _newest(root, name)
        previous_snapshot = {side: human_folder(root, name, before) / side for side in SIDES} if before else {}
        taken = _Taken(ScratchTables.in_folder(folder))
        first_new_order = taken.know(previous_snapshot)
        taken.read(listed, settings, told)
        made = {"documents": taken.content.hexdigest()[:32], **settings.model_dump(mode="json")}
        if before and made == read_manifest(previous_snapshot["human_train"])["settings"]:
            return _artifacts(root, name, before, made)
        found = find_duplicates(taken.spills, first_new_order, list(previous_snapshot.values()), settings, folder)
        placed = existing_split_by_group(previous_snapshot, settings)
        already = {side: read_manifest(previous_snapshot[side])["rows"] if before else 0 for side in SIDES}
        most = {"human_train": settings.max_train_records, "human_heldout": settings.max_heldout_records}
        room = {side: None if (limit := most[side]) is None else max(0, limit - already[side]) for side in SIDES}
        artifacts = _next(root, name, before, made)
        with contextlib.ExitStack() as drafts:
            # What is entered last is published first: the reserve is what makes a snapshot count.
            opened = {
                side: None if artifacts[side].exists() else drafts.enter_context(artifacts[side].draft())
                for side in ("human_train", "human_heldout", "rejected_documents")
            }
            written = {
                side: PartWriter(draft, REJECTED_DOCUMENTS if side == "rejected_documents" else HUMAN_RECORDS)
                for side, draft in opened.items()
            }
            for side, earlier in previous_snapshot.items():
                written[side].copy_from(earlier)
            for rows in taken.spills.rejected.iter_batches():
                written["rejected_documents"].append(rows)
            forgotten = to_string_array(one.text_hash for one in read_tombstones(root))
            split_and_write(found, placed, room, settings, forgotten, written, told)
            for parts_of_side in written.values():
                parts_of_side.close()
            _refuse_too_little(taken.documents.total(), written, opened.values())
            for side, draft in opened.items():
                if draft:
                    draft.facts = {"sources": list(sources), "reasons": dict(written[side].reasons.most_common())}
        return artifacts


def load_pinned_human(attempt: Attempt, name: str) -> dict[str, Artifact]:
    """The human text of one attempt: its reserve and its held-out set.

    The reserve is the newest one of when the attempt began; the held-out set is the one that the run began
    with, so that its curve stays one curve. Pinned with them are the evaluation sets of when it began.

    Raises:
        ArtifactMissingError: nothing of that name was ingested.
    """
    root = attempt.run.root
    there = (lambda: newest_snapshot(root, name), lambda: list_eval_sets(root, name))
    first = attempt.run.pin_snapshot(0, 1, *there)
    pinned = attempt.run.pin_snapshot(attempt.generation, attempt.number, *there)
    return {
        "human_train": _published(root, name, pinned)["human_train"],
        "human_heldout": _published(root, name, first)["human_heldout"],
    }


@dataclass
class _Taken:
    """What one pass over the sources has left on disk, and what it counted."""

    spills: ScratchTables
    content: Any = field(default_factory=hashlib.sha256)
    documents: Counter[str] = field(default_factory=Counter)
    blocks: int = 0

    def know(self, previous_snapshot: Mapping[str, Path]) -> int:
        """Keep the keys of earlier records; returns the order from which on records are new."""
        for side in previous_snapshot.values():
            for path in part_paths(side):
                for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(16_384, columns=["text"]):
                    index_previous_keys(self.spills.keys, self.blocks, batch.column(0).to_pylist())
                    self.blocks += 1
        return self.blocks << 32

    def read(self, listed: Sequence[tuple[str, Sequence[SourceFile]]], settings: IngestSettings, told: Any) -> None:  # noqa: ANN401
        """Read every document to the end of the last source."""
        began = time.monotonic()
        whole = sum(file.size for _, files in listed for file in files)
        ahead = deque[int]()
        unread = Counter[str]()

        def numbered() -> Iterator[tuple[int, list[Block]]]:
            for blocks in read_sources(listed, input_columns(settings)):
                ahead.append(blocks[-1].position)
                yield self.blocks, blocks
                self.blocks += 1

        for harvest in parallel_map(partial(read_blocks, self.spills, settings), numbered()):
            self.content.update(harvest.content_hash)
            self.documents.update(harvest.documents)
            unread.update(harvest.unreadable)
            read = self.documents.total()
            pace = read / max(1e-9, time.monotonic() - began)
            told(ahead.popleft(), whole, f"{read:,} documents, {pace:,.0f}/s")
        for file in (file for _, files in listed for file in files if file.explicit):
            if file.kind in JSON_LINES_SUFFIXES and 0 < self.documents[file.name] == unread[file.name]:
                raise HeirloomError(
                    f"{file.path} has no column {settings.text_column!r} with text; name another with --text-column"
                )


def _refuse_too_little(documents: int, written: Mapping[str, PartWriter], drafts: Iterable[Draft | None]) -> None:
    for side, fewest in _FEWEST.items():
        if written[side].rows < fewest:
            for draft in drafts:
                if draft:
                    discard(draft.folder)
            why = "; ".join(
                f"{count} {reason}" for reason, count in written["rejected_documents"].reasons.most_common(3)
            )
            raise HeirloomError(
                f"{documents} documents left {written[side].rows} records for the {side}, and at least {fewest} are needed"
                + (f"; set aside: {why}" if why else "")
            )


def _published(root: Path, name: str, snapshot: int) -> dict[str, Artifact]:
    return _artifacts(
        root, name, snapshot, read_manifest(human_folder(root, name, snapshot) / "human_train")["settings"]
    )


def _artifacts(root: Path, name: str, snapshot: int, made: dict[str, Any]) -> dict[str, Artifact]:
    folder = human_folder(root, name, snapshot)
    return {side: Artifact(folder / side, made) for side in ("human_train", "human_heldout", "rejected_documents")}


def _next(root: Path, name: str, before: int, made: dict[str, Any]) -> dict[str, Artifact]:
    """The next snapshot, behind any that an interrupted ingest of other documents has left without a reserve."""
    while True:
        before += 1
        artifacts = _artifacts(root, name, before, made)
        with contextlib.suppress(DriftError):
            for artifact in artifacts.values():
                artifact.exists()
            return artifacts


def _newest(root: Path, name: str) -> int:
    try:
        return newest_snapshot(root, name)
    except ArtifactMissingError:
        return 0
