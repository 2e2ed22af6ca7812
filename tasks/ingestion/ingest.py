"""Ingest documents as a snapshot of human training and held-out records.

Steps: read the sources in parallel, find duplicates, split, publish. Between the steps records are on disk, partitioned
by text hash, so memory use does not grow with the sources. A snapshot is never edited: ingesting more documents
publishes the next snapshot, which includes the records of the previous one.
"""

import contextlib
import hashlib
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from curation.splitting import IngestSettings
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, ArtifactMissingError, Draft, DriftError, part_paths, read_manifest
from storage.artifacts.schemas import HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.artifacts.tombstones import read_tombstones, to_string_array
from storage.datasets.eval_sets import list_eval_sets, load_eval_set
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.index.partitioned_scratch import discard, scratch
from storage.names import check_name
from storage.readers.base import SourceFile
from storage.readers.discovery import find_files, read_sources
from storage.readers.documents import no_text_error
from storage.readers.formats import JSON_LINES_SUFFIXES
from storage.runs.run import Attempt
from tasks.context import HumanData
from tasks.ingestion.dedup import find_duplicates
from tasks.ingestion.read import BlockBatch, ScratchTables, index_previous_keys, input_columns, read_blocks
from tasks.ingestion.split import (
    OUTPUTS,
    REJECTED,
    SPLITS,
    PartWriter,
    SplitRules,
    existing_split_by_group,
    split_and_write,
)
from tasks.orchestration.parallel import parallel_map
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import ProgressReporter, progress

_MIN_RECORDS = {"human_train": 20, "human_heldout": 5}
_KEY_BATCH_ROWS = 16_384
_ROW_SUFFIXES = (*JSON_LINES_SUFFIXES, ".csv", ".tsv")
_MAX_LISTED_COLUMNS = 50


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source as the user named it, and its files."""

    name: str
    files: Sequence[SourceFile]


@dataclass(frozen=True, kw_only=True)
class SourceCounts:
    """Summary of one pass over the sources; the records are in the scratch tables."""

    num_documents: int
    content_hash: str
    unread_columns: Counter[str]
    """Rows by column that was not read."""
    shapes: Counter[str]
    """Documents by what their conversations were taken for."""


@task
def ingest(root: Path, name: str, sources: Sequence[str], settings: IngestSettings) -> dict[str, Artifact]:
    """Publish the next snapshot of a dataset, or return the newest one if it has the same documents and settings.

    Args:
        root: Store.
        name: Dataset name.
        sources: Files, folders, patterns, `hf:NAME` or `python-docs`.
        settings: Columns, splits and deduplication.

    Returns:
        The artifacts of the snapshot by name, see `OUTPUTS`.

    Raises:
        HeirloomError: A source cannot be read, or too few records are left for a split.
        BusyError: Another process ingests into this dataset.
    """
    check_name(name, "a dataset")
    located = [Source(name=source, files=find_files(source)) for source in sources]
    with progress(name, "ingest") as report, scratch(root / "human" / name / ".ingest") as folder:
        number = _newest_snapshot_or_0(root, name)
        previous = {split: human_folder(root, name, number) / split for split in SPLITS} if number else {}
        tables = ScratchTables.in_folder(folder)
        num_previous_batches = _index_previous_snapshot(tables, previous)
        counts = _read_sources(tables, located, settings, num_previous_batches, report)
        identity = {"documents": counts.content_hash, **settings.identity()}
        if number and identity == read_manifest(previous["human_train"])["settings"]:
            return _snapshot_artifacts(root, name, number, identity)
        deduplicated = find_duplicates(
            tables, num_previous_batches << 32, list(previous.values()), settings.dedup, folder
        )
        rules = SplitRules(
            settings=settings,
            existing_groups=existing_split_by_group(previous, settings),
            capacity=_capacity(previous, settings),
            erased_hashes=to_string_array(tombstone.text_hash for tombstone in read_tombstones(root)),
        )
        artifacts = _next_snapshot(root, name, number, identity)
        with contextlib.ExitStack() as drafts:
            # Drafts are published in reverse order, so the training set is last: only with it does a snapshot count.
            opened: dict[str, Draft | None] = {}
            for output in OUTPUTS:
                finished = artifacts[output].exists()
                opened[output] = None if finished else drafts.enter_context(artifacts[output].draft())
            writers = {
                output: PartWriter(draft, REJECTED_DOCUMENTS if output == REJECTED else HUMAN_RECORDS)
                for output, draft in opened.items()
            }
            for split, previous_split in previous.items():
                writers[split].copy_from(previous_split)
            for rejected in tables.rejected.iter_batches():
                writers[REJECTED].append(rejected)
            split_and_write(deduplicated, rules, writers, report)
            for writer in writers.values():
                writer.close()
            _require_min_records(counts.num_documents, writers, opened.values())
            for output, draft in opened.items():
                if draft:
                    draft.facts = {
                        "sources": list(sources),
                        "reasons": dict(writers[output].reasons.most_common()),
                        "unread_columns": dict(counts.unread_columns.most_common(_MAX_LISTED_COLUMNS)),
                        "num_unread_columns": len(counts.unread_columns),
                        "shapes": dict(counts.shapes.most_common()),
                        "num_documents": counts.num_documents,
                        "long_texts": writers[output].long_texts,
                        "longest_text": writers[output].longest_text,
                        "equal_shingles": writers[output].equal_shingles,
                    }
        return artifacts


def load_pinned_human(attempt: Attempt, name: str) -> HumanData:
    """Load the human data of an attempt.

    The first call for an attempt pins the newest snapshot and the current eval sets.

    Raises:
        ArtifactMissingError: The dataset, or a pinned eval set, does not exist.
    """
    root = attempt.run.root

    def newest() -> int:
        return newest_snapshot(root, name)

    def eval_sets() -> list[str]:
        return list_eval_sets(root, name)

    first = attempt.run.pin_snapshot(0, 1, newest, eval_sets)
    pinned = attempt.run.pin_snapshot(attempt.generation, attempt.number, newest, eval_sets)
    snapshot = _published_artifacts(root, name, pinned)
    protected = {"human_heldout": snapshot["human_heldout"]}
    for eval_set in attempt.run.pinned_eval_sets(attempt.generation, attempt.number):
        protected[eval_set] = load_eval_set(root, name, eval_set)
    return HumanData(
        train=snapshot["human_train"],
        heldout=_published_artifacts(root, name, first)["human_heldout"],
        protected=protected,
    )


def _index_previous_snapshot(tables: ScratchTables, previous: Mapping[str, Path]) -> int:
    """Write the exact keys of the previous snapshot, and return the number of batches they are in."""
    num_batches = 0
    for folder in previous.values():
        for path in part_paths(folder):
            for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(_KEY_BATCH_ROWS, columns=["text"]):
                index_previous_keys(tables.keys, num_batches, batch.column(0).to_pylist())
                num_batches += 1
    return num_batches


def _read_sources(
    tables: ScratchTables,
    sources: Sequence[Source],
    settings: IngestSettings,
    first_batch: int,
    report: ProgressReporter,
) -> SourceCounts:
    """Read all documents in parallel into the scratch tables; batches are numbered from `first_batch`."""
    start = time.monotonic()
    total_bytes = sum(file.size for source in sources for file in source.files)
    positions = deque[int]()
    num_documents, num_unreadable = Counter[str](), Counter[str]()
    reasons, unread_columns, shapes = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
    content_hash = hashlib.sha256()

    def batches() -> Iterator[BlockBatch]:
        located = [(source.name, source.files) for source in sources]
        for number, blocks in enumerate(read_sources(located, input_columns(settings)), first_batch):
            positions.append(blocks[-1].position)
            yield BlockBatch(number=number, blocks=blocks)

    for result in parallel_map(partial(read_blocks, tables, settings), batches()):
        content_hash.update(result.content_hash)
        num_documents.update(result.documents)
        num_unreadable.update(result.unreadable)
        reasons.update(result.unread_reasons)
        unread_columns.update(result.unread_columns)
        shapes.update(result.shapes)
        done = num_documents.total()
        per_second = done / max(1e-9, time.monotonic() - start)
        report(positions.popleft(), total_bytes, f"{done:,} documents, {per_second:,.0f}/s")
    for file in (file for source in sources for file in source.files):
        # A named file without any text is refused; one that was found in a folder is only counted.
        if file.explicit and file.kind in _ROW_SUFFIXES and 0 < num_documents[file.name] == num_unreadable[file.name]:
            file_reasons = Counter({reason: count for (name, reason), count in reasons.items() if name == file.name})
            raise no_text_error(file.path, file_reasons, settings.text_column, sorted(unread_columns))
    return SourceCounts(
        num_documents=num_documents.total(),
        content_hash=content_hash.hexdigest()[:32],
        unread_columns=unread_columns,
        shapes=shapes,
    )


def _capacity(previous: Mapping[str, Path], settings: IngestSettings) -> dict[str, int | None]:
    """Return the number of records that may be added to each split; None is unlimited."""
    max_records = {"human_train": settings.max_train_records, "human_heldout": settings.max_heldout_records}
    capacity: dict[str, int | None] = {}
    for split, limit in max_records.items():
        num_previous = read_manifest(previous[split])["rows"] if previous else 0
        capacity[split] = None if limit is None else max(0, limit - num_previous)
    return capacity


def _require_min_records(num_documents: int, writers: Mapping[str, PartWriter], drafts: Iterable[Draft | None]) -> None:
    """Discard the drafts and raise if a split has too few records."""
    for split, min_records in _MIN_RECORDS.items():
        if writers[split].rows >= min_records:
            continue
        for draft in drafts:
            if draft:
                discard(draft.folder)
        reasons = writers[REJECTED].reasons
        rejected = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
        passages = ", or split long ones into passages: `--set passage_length_chars=[200,1200]`"
        most_are_kept = reasons.total() <= num_documents / 2
        raise HeirloomError(
            f"{num_documents} documents yield {writers[split].rows} records for `{split}`; at least {min_records} are "
            f"needed. Add documents{passages if most_are_kept else ''}"
            + (f". Rejected: {rejected}." if rejected else ".")
        )


def _published_artifacts(root: Path, name: str, snapshot: int) -> dict[str, Artifact]:
    identity = read_manifest(human_folder(root, name, snapshot) / "human_train")["settings"]
    return _snapshot_artifacts(root, name, snapshot, identity)


def _snapshot_artifacts(root: Path, name: str, snapshot: int, identity: Mapping[str, object]) -> dict[str, Artifact]:
    folder = human_folder(root, name, snapshot)
    return {output: Artifact(folder / output, identity) for output in OUTPUTS}


def _next_snapshot(root: Path, name: str, newest: int, identity: Mapping[str, object]) -> dict[str, Artifact]:
    """Return the artifacts of the next snapshot.

    An interrupted ingest of other documents leaves a snapshot folder without training set; its number is skipped.
    """
    number = newest
    while True:
        number += 1
        artifacts = _snapshot_artifacts(root, name, number, identity)
        with contextlib.suppress(DriftError):
            for artifact in artifacts.values():
                artifact.exists()
            return artifacts


def _newest_snapshot_or_0(root: Path, name: str) -> int:
    try:
        return newest_snapshot(root, name)
    except ArtifactMissingError:
        return 0
