"""Documents to an evaluation set, kept out of everything from then on, and a look at what had met it before.

A set is immutable and splits nothing anew. Attempts that begin after it know it and keep it out themselves;
the look covers the rest: the newest reserve, and candidates and corpora of attempts that began without it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.filters.decontamination import OverlapSettings, find_overlaps
from curation.splitting import EvalSetSettings
from curation.text import split_passages, words
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, Artifact, DriftError, read_manifest, read_table
from storage.artifacts.ids import human_id, text_hash
from storage.artifacts.schemas import EVAL_EXPOSURES, HUMAN, HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.datasets.eval_sets import eval_set_folder
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.readers.base import Document
from storage.readers.documents import read_documents
from storage.runs.run import runs
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import progress

Row = dict[str, Any]


@task
def add_eval_set(
    root: Path, dataset: str, name: str, sources: Sequence[str], settings: EvalSetSettings
) -> dict[str, Artifact]:
    """Publish the set, or find it there; then look at whatever may have met it and was not looked at before.

    Raises:
        HeirloomError: a source cannot be read, nothing in it can be a record, or the set is there with other records.
    """
    newest_snapshot(root, dataset)
    folder = eval_set_folder(root, dataset, name)
    with progress(name, "add_eval_set"):
        documents = [document for source in sources for document in read_documents(source, settings.text_column)]
        made = {"documents": _digest(documents), **settings.model_dump(mode="json", exclude={"overlap"})}
        artifacts = {side: Artifact(folder / side, made) for side in ("rejected_documents", "records")}
        rows, aside = _records(documents, settings)
        if not rows:
            raise HeirloomError(f"none of {len(documents)} documents can be a record of an evaluation set")
        _publish(
            dataset,
            name,
            artifacts,
            {"rejected_documents": (REJECTED_DOCUMENTS, aside), "records": (HUMAN_RECORDS, rows)},
        )
        _look(root, dataset, name, artifacts["records"], settings.overlap)
    return artifacts


def _publish(
    human: str, name: str, artifacts: dict[str, Artifact], tables: dict[str, tuple[pa.Schema, list[Row]]]
) -> None:
    """The records are what makes a set count, so they are published last."""
    try:
        missing = [side for side, artifact in artifacts.items() if not artifact.exists()]
    except DriftError as error:
        raise HeirloomError(
            f"evaluation set {name} of {human} is there already and does not change ({error}); give this one another name"
        ) from error
    for side in missing:
        schema, content = tables[side]
        with artifacts[side].draft() as draft:
            draft.write_part(pa.Table.from_pylist(content, schema=schema))


def _digest(documents: Sequence[Document]) -> str:
    content = hashlib.sha256()
    for document in documents:
        content.update(
            f"{document.source}\0{document.row_number}\0{document.content}\0".encode("utf-8", "surrogatepass")
        )
    return content.hexdigest()[:32]


def _records(documents: Sequence[Document], settings: EvalSetSettings) -> tuple[list[Row], list[Row]]:
    """Records, each text once, and what was set aside with the reason."""
    rows: dict[str, Row] = {}
    aside: list[Row] = []
    for document in documents:
        origin = {"source": document.source, "row_number": document.row_number}
        cut = (
            split_passages(document.content, *settings.passage_length_chars)
            if settings.passage_length_chars
            else [document.content]
        )
        texts = [text.encode("utf-8", "replace").decode() for text in cut if words(text)]
        if document.error or not texts:
            aside.append({"filter": "read", "reason": document.error or "holds no record", **origin})
            continue
        for text in texts:
            identity = human_id(text)
            if identity in rows:
                again = {"id": identity, "duplicate_of": identity, "score": 1.0}
                aside.append({"filter": "exact", "reason": "says the same", **again, **origin})
                continue
            rows[identity] = {
                "id": identity,
                "text": text,
                "origin": HUMAN,
                "source_generation": 0,
                "source": document.source,
                "split_group": document.source,
                "license": document.license,
                "text_hash": text_hash(text),
            }
    return list(rows.values()), aside


@dataclass(frozen=True)
class _Place:
    """An artifact that may have met a set, and the columns of `met` that say which."""

    folder: Path
    columns: Row


def _look(root: Path, human: str, name: str, records: Artifact, settings: OverlapSettings) -> None:
    """Publish what has met the set where nobody has looked yet; nothing if there is no such place."""
    before = sorted(path.parent for path in records.folder.parent.glob(f"eval_exposures=*/{MANIFEST}"))
    seen = {parent for folder in before for parent in read_manifest(folder)["parents"]}
    places = {place.folder.relative_to(root).as_posix(): place for place in _places(root, human, name)}
    fresh = {path: place for path, place in places.items() if path not in seen}
    if before and not fresh:
        return
    parents = {path: read_manifest(place.folder)["fingerprint"] for path, place in fresh.items()}
    met = Artifact(
        records.folder.with_name(f"eval_exposures={len(before) + 1}"),
        settings.model_dump(mode="json"),
        {"records": records.fingerprint, **parents},
    )
    against = read_table(records.folder, ["id", "text"])
    with met.draft() as draft:
        rows = [row for place in fresh.values() for row in _met(place, against, settings)]
        draft.write_part(pa.Table.from_pylist(rows, schema=EVAL_EXPOSURES))


def _places(root: Path, human: str, name: str) -> Iterator[_Place]:
    snapshot = newest_snapshot(root, human)
    yield _Place(human_folder(root, human, snapshot) / "human_train", {"found_in": "human_train", "snapshot": snapshot})
    for run in runs(root):
        if run.recipe().get("dataset") != human:
            continue
        for manifest in sorted(run.folder.glob(f"generation=*/attempt=*/*/{MANIFEST}")):
            kind = manifest.parent.name
            generation, attempt = (int(part.name.split("=")[1]) for part in (manifest.parents[2], manifest.parents[1]))
            if kind in ("candidates", "corpus") and name not in run.pinned_eval_sets(generation, attempt):
                columns = {"found_in": kind, "run": run.name, "generation": generation, "attempt": attempt}
                yield _Place(manifest.parent, columns)


def _met(place: _Place, against: pa.Table, settings: OverlapSettings) -> list[Row]:
    some = read_table(place.folder, ["id", "text", "origin"])
    found = find_overlaps(some["text"].to_pylist(), against["text"].to_pylist(), settings)
    return [
        {
            **place.columns,
            "id": some["id"][row].as_py(),
            "origin": some["origin"][row].as_py(),
            "duplicate_of": against["id"][int(found.source_row[row])].as_py(),
            "similarity": float(np.nan_to_num(found.jaccard[row])),
            "shared_run_words": int(found.shared_run[row]),
        }
        for row in np.flatnonzero(found.is_contaminated).tolist()
    ]
