"""Documents to the human reserve and the held-out set: read, cut, dropped where they repeat, split, published.

A snapshot is never edited. Ingesting more adds the next one, which holds the records of the one before.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.exact import find_exact_duplicates
from curation.minhash import find_near_duplicates
from curation.splitting import IngestSettings, is_held_out
from curation.text import passages, words
from storage.artifact import AbsentError, Artifact, DriftError, read_manifest, read_table
from storage.evaluation import evaluation_sets
from storage.records import HUMAN, RESERVE, SET_ASIDE, human_id, text_digest
from storage.run import Attempt, human_folder, newest_snapshot
from storage.sources import Document, read_documents
from storage.tombstones import read_tombstones
from tasks.coat import verb
from tasks.progress import stage

_FEWEST = {"reserve": 20, "heldout": 5}

Row = dict[str, Any]


@verb
def ingest(root: Path, name: str, sources: Sequence[str], settings: IngestSettings) -> dict[str, Artifact]:
    """Publish the next snapshot, or return the newest one if the same documents made it.

    Raises:
        ValueError: a source cannot be read, or too little is left to train on or to measure with.
    """
    with stage(name, "ingest") as told:
        documents = [document for source in sources for document in read_documents(source, settings.column)]
        before, rows = _newest(root, name)
        made = {"documents": _digest(documents), **settings.model_dump(mode="json")}
        if before and made == read_manifest(human_folder(root, name, before) / "reserve")["settings"]:
            return _artifacts(root, name, before, made)
        found, aside = _remembered(root, *_records(documents, settings))
        kept, repeated = _distinct(found, rows["reserve"] + rows["heldout"], settings, told)
        sides = _split(kept, rows, settings, aside)
        for side, fewest in _FEWEST.items():
            if len(sides[side]) < fewest:
                raise ValueError(
                    f"{len(documents)} documents left {len(sides[side])} records for the {side}, and at least {fewest} are needed; "
                    f"{len(repeated)} repeated another one, {len(aside)} were set aside"
                )
        artifacts = _next(root, name, before, made)
        tables = {side: (RESERVE, sides[side]) for side in _FEWEST} | {"set_aside": (SET_ASIDE, aside + repeated)}
        # The reserve is what makes a snapshot count, so it is published last.
        for side in ("set_aside", "heldout", "reserve"):
            schema, content = tables[side]
            if not artifacts[side].finished():
                with artifacts[side].draft() as draft:
                    draft.write_part(pa.Table.from_pylist(content, schema=schema))
                    draft.facts = {"sources": list(sources)}
        return artifacts


def pinned_human(attempt: Attempt, name: str) -> dict[str, Artifact]:
    """The human text of one attempt: its reserve and its held-out set.

    The reserve is the newest one of when the attempt began; the held-out set is the one that the run began
    with, so that its curve stays one curve. Pinned with them are the evaluation sets of when it began.

    Raises:
        AbsentError: nothing of that name was ingested.
    """
    root = attempt.run.root
    there = (lambda: newest_snapshot(root, name), lambda: evaluation_sets(root, name))
    first = attempt.run.pin(0, 1, *there)
    pinned = attempt.run.pin(attempt.generation, attempt.number, *there)
    return {"reserve": _published(root, name, pinned)["reserve"], "heldout": _published(root, name, first)["heldout"]}


def _published(root: Path, name: str, snapshot: int) -> dict[str, Artifact]:
    return _artifacts(root, name, snapshot, read_manifest(human_folder(root, name, snapshot) / "reserve")["settings"])


def _artifacts(root: Path, name: str, snapshot: int, made: Row) -> dict[str, Artifact]:
    folder = human_folder(root, name, snapshot)
    return {side: Artifact(folder / side, made) for side in ("reserve", "heldout", "set_aside")}


def _next(root: Path, name: str, before: int, made: Row) -> dict[str, Artifact]:
    """The next snapshot, behind any that an interrupted ingest of other documents has left without a reserve."""
    while True:
        before += 1
        artifacts = _artifacts(root, name, before, made)
        with contextlib.suppress(DriftError):
            for artifact in artifacts.values():
                artifact.finished()
            return artifacts


def _newest(root: Path, name: str) -> tuple[int, dict[str, list[Row]]]:
    try:
        snapshot = newest_snapshot(root, name)
    except AbsentError:
        return 0, {side: [] for side in _FEWEST}
    folder = human_folder(root, name, snapshot)
    return snapshot, {side: read_table(folder / side).to_pylist() for side in _FEWEST}


def _digest(documents: Sequence[Document]) -> str:
    content = hashlib.sha256()
    for document in documents:
        content.update(f"{document.source}\0{document.place}\0".encode("utf-8", "surrogatepass"))
        content.update(document.text.encode("utf-8", "surrogatepass"))
    return content.hexdigest()[:32]


def _records(documents: Sequence[Document], settings: IngestSettings) -> tuple[list[Row], list[Row]]:
    """Rows that can be records, and those set aside with the reason."""
    found: list[Row] = []
    aside: list[Row] = []
    for document in documents:
        cut = passages(document.text, *settings.passage_characters) if settings.passage_characters else [document.text]
        texts = [text for text in cut if words(text)]
        reason = document.reason or (
            "" if texts else "holds no passage of that length" if settings.passage_characters else "holds no word"
        )
        if reason:
            aside.append(_set_aside("", document.source, document.place, "read", reason))
        for text in [] if reason else texts:
            group = document.source if settings.split_by == "source" else text_digest(text)
            found.append(_record(text, document, group))
    return found, aside


def _remembered(root: Path, found: list[Row], aside: list[Row]) -> tuple[list[Row], list[Row]]:
    """What was forgotten does not come back: it is set aside, by its id alone."""
    gone = {one.digest for one in read_tombstones(root)}
    forgotten = [row for row in found if row["digest"] in gone]
    told = [_set_aside(row["id"], row["source"], row["place"], "forget", "was forgotten") for row in forgotten]
    return [row for row in found if row["digest"] not in gone], aside + told


def _record(text: str, document: Document, group: str) -> Row:
    # A lone surrogate can be read from JSON, and cannot be stored as UTF-8.
    clean = text.encode("utf-8", "replace").decode()
    return {
        "id": human_id(clean),
        "text": clean,
        "origin": HUMAN,
        "born": 0,
        "source": document.source,
        "group": group,
        "licence": document.licence,
        "digest": text_digest(clean),
        "place": document.place,
    }


def _distinct(found: list[Row], before: list[Row], settings: IngestSettings, told: Any) -> tuple[list[Row], list[Row]]:  # noqa: ANN401
    """Rows that repeat neither each other nor an earlier record, and those that do."""
    repeated: list[Row] = []
    for name, search in (("exact", find_exact_duplicates), ("minhash", None)):
        told(0 if search else 1, 2)
        texts, reference = [row["text"] for row in found], [row["text"] for row in before]
        answer = (
            search(texts, reference) if search else find_near_duplicates(texts, reference, settings.near_duplicates)
        )
        everyone = before + found
        for row, keeper, similarity in zip(found, answer.keeper, answer.similarity, strict=True):
            if keeper >= 0:
                reason = "says the same" if name == "exact" else "says nearly the same"
                repeated.append(
                    _set_aside(
                        row["id"], row["source"], row["place"], name, reason, everyone[keeper]["id"], float(similarity)
                    )
                )
        found = [row for row, kept in zip(found, answer.kept, strict=True) if kept]
    return found, repeated


def _split(
    kept: list[Row], before: dict[str, list[Row]], settings: IngestSettings, aside: list[Row]
) -> dict[str, list[Row]]:
    sides: dict[str, list[Row]] = {"reserve": [], "heldout": []}
    for row in sorted(kept, key=lambda row: row["digest"]):
        sides["heldout" if is_held_out(row["group"], settings.heldout_fraction) else "reserve"].append(row)
    for side, most in (("reserve", settings.reserve_records), ("heldout", settings.heldout_records)):
        room = len(sides[side]) if most is None else max(0, most - len(before[side]))
        aside += [
            _set_aside(row["id"], row["source"], row["place"], "limit", f"the {side} is full")
            for row in sides[side][room:]
        ]
        sides[side] = before[side] + sides[side][:room]
    return sides


def _set_aside(
    identity: str,
    source: str,
    place: int,
    stage_name: str,
    reason: str,
    keeper: str = "",
    evidence: float | None = None,
) -> Row:
    return {
        "id": identity or None,
        "source": source,
        "place": place,
        "stage": stage_name,
        "reason": reason,
        "keeper": keeper or None,
        "evidence": evidence,
    }
