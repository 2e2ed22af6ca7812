"""Add an eval set to a dataset, and report earlier exposure to it.

An eval set is immutable, and does not change the split of the human data. Attempts that begin later exclude it
themselves. The exposure check covers everything else: the newest training set, and the candidates and corpora of
attempts that began before the eval set was added.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from curation.filters.decontamination import OverlapSettings, find_overlaps
from curation.passages import split_passages
from curation.splitting import EvalSetSettings
from curation.text import has_word
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, Artifact, DriftError, read_manifest, read_table
from storage.artifacts.ids import human_id, text_hash
from storage.artifacts.schemas import EVAL_EXPOSURES, HUMAN, HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.datasets.eval_sets import eval_set_folder
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.readers.base import Document
from storage.readers.documents import read_documents
from storage.runs.run import runs
from tasks.ingestion.dedup import EXACT_REASON
from tasks.ingestion.read import NO_WORDS, PASSAGE_TOO_SHORT, text_columns
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import progress

Row: TypeAlias = dict[str, Any]
"""A row of a table, by column."""


@dataclass(frozen=True, kw_only=True)
class EvalSetRows:
    """Rows of the two tables of an eval set."""

    records: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ExposureLocation:
    """An artifact that may contain records of an eval set."""

    folder: Path
    columns: Row
    """Values of the columns of `EVAL_EXPOSURES` that identify the artifact."""


@task
def add_eval_set(
    root: Path, dataset: str, name: str, sources: Sequence[str], settings: EvalSetSettings
) -> dict[str, Artifact]:
    """Publish an eval set if it does not exist, then check artifacts that were not checked before for exposure.

    Returns:
        The artifacts `records` and `rejected_documents`.

    Raises:
        HeirloomError: A source cannot be read, no document yields a record, or the eval set exists with other records.
    """
    newest_snapshot(root, dataset)
    folder = eval_set_folder(root, dataset, name)
    with progress(name, "add_eval_set"):
        columns = text_columns(settings.text_column, settings)
        documents = [document for source in sources for document in read_documents(source, columns)]
        identity = {"documents": _content_hash(documents), **settings.identity()}
        # The eval set counts as soon as its records are published, so they are last.
        artifacts = {output: Artifact(folder / output, identity) for output in ("rejected_documents", "records")}
        rows = _eval_set_rows(documents, settings)
        if not rows.records:
            raise HeirloomError(
                f"No record for the eval set: none of {len(documents)} documents has text that can be used. "
                "Check the sources and `text_column`."
            )
        _publish(dataset, name, artifacts, rows)
        _check_exposure(root, dataset, name, artifacts["records"], settings.overlap)
    return artifacts


def _publish(dataset: str, name: str, artifacts: Mapping[str, Artifact], rows: EvalSetRows) -> None:
    try:
        missing = [artifact for artifact in artifacts.values() if not artifact.exists()]
    except DriftError as error:
        raise HeirloomError(
            f"Eval set {name} of {dataset} exists with other records or settings ({error}). An eval set cannot be "
            "changed; add this one under another name."
        ) from error
    tables = {
        "records": pa.Table.from_pylist(rows.records, schema=HUMAN_RECORDS),
        "rejected_documents": pa.Table.from_pylist(rows.rejected, schema=REJECTED_DOCUMENTS),
    }
    for artifact in missing:
        with artifact.draft() as draft:
            draft.write_part(tables[artifact.name])


def _content_hash(documents: Sequence[Document]) -> str:
    content = hashlib.sha256()
    for document in documents:
        content.update(
            f"{document.source}\0{document.row_number}\0{document.content}\0".encode("utf-8", "surrogatepass")
        )
    return content.hexdigest()[:32]


def _eval_set_rows(documents: Sequence[Document], settings: EvalSetSettings) -> EvalSetRows:
    """Convert documents to records, each text once."""
    rows = EvalSetRows()
    record_ids: set[str] = set()
    for document in documents:
        origin = {"source": document.source, "row_number": document.row_number}
        texts, reasons = _texts_of(document, settings)
        rows.rejected.extend({"filter": "read", "reason": reason, **origin} for reason in reasons)
        for text in texts:
            record_id = human_id(text)
            if record_id in record_ids:
                duplicate = {"id": record_id, "duplicate_of": record_id, "score": 1.0}
                rows.rejected.append({"filter": "exact", "reason": EXACT_REASON, **duplicate, **origin})
                continue
            record_ids.add(record_id)
            rows.records.append(
                {
                    "id": record_id,
                    "text": text,
                    "origin": HUMAN,
                    "source_generation": 0,
                    "source": document.source,
                    "split_group": document.source,
                    "license": document.license,
                    "text_hash": text_hash(text),
                }
            )
    return rows


def _texts_of(document: Document, settings: EvalSetSettings) -> tuple[list[str], list[str]]:
    """Return the texts of a document, and a reason for all of it, or each part of it, that is not used."""
    if document.error:
        return [], [document.error]
    if settings.passage_length_chars is None:
        texts, reasons = [document.content], []
    else:
        passages = split_passages(document.content, *settings.passage_length_chars)
        texts = passages.texts
        reasons = [PASSAGE_TOO_SHORT] * bool(passages.rest) or [NO_WORDS] * (not texts)
    # A lone surrogate, which JSON can contain, cannot be stored as UTF-8.
    used = [text.encode("utf-8", "replace").decode() for text in texts if has_word(text)]
    return used, reasons + [NO_WORDS] * (len(texts) - len(used))


def _check_exposure(root: Path, dataset: str, name: str, records: Artifact, settings: OverlapSettings) -> None:
    """Publish the exposures in artifacts that no earlier check covered; nothing if there are no such artifacts."""
    eval_set = records.folder.parent
    earlier_checks = sorted(path.parent for path in eval_set.glob(f"eval_exposures=*/{MANIFEST}"))
    checked = {parent for folder in earlier_checks for parent in read_manifest(folder)["parents"]}
    locations = {
        path: location
        for location in _exposure_locations(root, dataset, name)
        if (path := location.folder.relative_to(root).as_posix()) not in checked
    }
    if earlier_checks and not locations:
        return
    parents = {path: read_manifest(location.folder)["fingerprint"] for path, location in locations.items()}
    exposures = Artifact(
        eval_set / f"eval_exposures={len(earlier_checks) + 1}",
        settings.model_dump(mode="json"),
        {"records": records.fingerprint, **parents},
    )
    eval_records = read_table(records.folder, ["id", "text"])
    with exposures.draft() as draft:
        rows = [row for location in locations.values() for row in _find_exposures(location, eval_records, settings)]
        draft.write_part(pa.Table.from_pylist(rows, schema=EVAL_EXPOSURES))


def _exposure_locations(root: Path, dataset: str, name: str) -> Iterator[ExposureLocation]:
    """Yield the newest training set, and the candidates and corpora of attempts that began without the eval set."""
    snapshot = newest_snapshot(root, dataset)
    yield ExposureLocation(
        folder=human_folder(root, dataset, snapshot) / "human_train",
        columns={"found_in": "human_train", "snapshot": snapshot},
    )
    for run in runs(root):
        if run.recipe().get("dataset") != dataset:
            continue
        for manifest in sorted(run.folder.glob(f"generation=*/attempt=*/*/{MANIFEST}")):
            folder = manifest.parent
            attempt = int(folder.parent.name.removeprefix("attempt="))
            generation = int(folder.parent.parent.name.removeprefix("generation="))
            if folder.name not in ("candidates", "corpus") or name in run.pinned_eval_sets(generation, attempt):
                continue
            columns = {"found_in": folder.name, "run": run.name, "generation": generation, "attempt": attempt}
            yield ExposureLocation(folder=folder, columns=columns)


def _find_exposures(location: ExposureLocation, eval_records: pa.Table, settings: OverlapSettings) -> list[Row]:
    records = read_table(location.folder, ["id", "text", "origin"])
    overlaps = find_overlaps(records["text"].to_pylist(), eval_records["text"].to_pylist(), settings)
    return [
        {
            **location.columns,
            "id": records["id"][row].as_py(),
            "origin": records["origin"][row].as_py(),
            "duplicate_of": eval_records["id"][int(overlaps.source_row[row])].as_py(),
            "similarity": float(np.nan_to_num(overlaps.jaccard[row])),
            "shared_run_words": int(overlaps.shared_run[row]),
        }
        for row in np.flatnonzero(overlaps.is_contaminated).tolist()
    ]
