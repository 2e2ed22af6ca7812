"""What must stay out of a generation, what therefore stays out, and the proof that it did.

Withheld are the held-out records of the snapshot that an attempt pins and the evaluation sets it knew when it
began. Before a model speaks, `screen` says which records may be neither prompted from nor learned from; once
a corpus stands, `prove` compares all of it with all that is withheld, whatever the sieves were.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions import Decision, Known
from curation.filters.decontamination import Overlaps, OverlapSettings, find_overlaps
from curation.pipeline import CurateSettings, find_contamination
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.artifacts.schemas import CONTAMINATION, DECISIONS, HUMAN, SYNTHETIC
from storage.artifacts.survivors import read_survivors, without_dropped
from storage.datasets.eval_sets import evaluation_set
from storage.runs.run import Attempt
from storage.runs.status import refused
from tasks.orchestration.prefect import verb
from tasks.orchestration.progress import logger, stage

_COLUMNS = ["id", "text", "born"]

Withheld = Mapping[str, Artifact]
"""The held-out set as `heldout`, and each evaluation set by its name."""


def pinned_withheld(attempt: Attempt, reserve: Artifact) -> dict[str, Artifact]:
    """What an attempt that has pinned this reserve keeps out: the held-out set beside it, and evaluation sets.

    Raises:
        AbsentError: an evaluation set that it knew is no longer there.
    """
    heldout = replace(reserve, folder=reserve.folder.with_name("heldout"))
    human = reserve.folder.parents[1].name
    names = attempt.run.pinned_evaluation(attempt.generation, attempt.number)
    return {"heldout": heldout} | {name: evaluation_set(attempt.run.root, human, name) for name in names}


def as_parents(withheld: Withheld) -> dict[str, Artifact]:
    """What is withheld, under the names by which manifests call it."""
    return {name if name == "heldout" else f"evaluation_{name}": artifact for name, artifact in withheld.items()}


def read_withheld(withheld: Withheld) -> Known:
    """Every withheld record."""
    return _known(pa.concat_tables(read_table(artifact.folder, _COLUMNS) for artifact in withheld.values()))


@verb
def screen(
    attempt: Attempt,
    reserve: Artifact,
    withheld: Withheld,
    pool: Sequence[tuple[Artifact, Artifact]],
    settings: CurateSettings,
) -> Artifact:
    """Publish a decision against each record that overlaps what is withheld, or that a person has rejected.

    Looked at are the reserve, and survivors of earlier generations that were sieved before a set was there.

    Raises:
        ValueError: no record of the reserve is left.
    """
    unsieved = list(_unsieved(pool, withheld)) if "contamination" in settings.stages else []
    parents = {f"decisions_{place}": pool[place][1] for place in unsieved}
    rejected = refused(attempt)
    identity = settings.overlap.model_dump(mode="json") | ({"refused": sorted(rejected)} if rejected else {})
    kept_out = attempt.artifact("kept_out", identity, reserve=reserve, **as_parents(withheld), **parents)
    if kept_out.finished():
        return kept_out
    with kept_out.draft() as draft, stage(attempt, "screen"):
        against = read_withheld(withheld)
        dropped = [asdict(Decision(one, "review", kept=False, reason=why)) for one, why in rejected.items()]
        human = read_table(reserve.folder, _COLUMNS)
        survivors = [read_survivors(*(one.folder for one in pool[place])).select(_COLUMNS) for place in unsieved]
        for table in (human, *survivors):
            decided = find_contamination(_known(table), against, settings.overlap)
            dropped += [asdict(one) for one in decided if not one.kept and one.id not in rejected]
        if {*human["id"].to_pylist()} <= {one["id"] for one in dropped}:
            raise ValueError(
                f"{attempt}: every record of the reserve overlaps what is withheld, or was rejected; ingest more text"
            )
        draft.write_part(pa.Table.from_pylist(dropped, schema=DECISIONS))
        draft.facts = {"screened": human.num_rows + sum(map(len, survivors)), "kept_out": len(dropped)}
    return kept_out


@verb
def prove(attempt: Attempt, corpus: Artifact, withheld: Withheld, settings: CurateSettings) -> Artifact:
    """Publish what the corpus shares with each withheld set; zero overlapping is the promise kept."""
    identity = settings.overlap.model_dump(mode="json")
    contamination = attempt.artifact("contamination", identity, corpus=corpus, **as_parents(withheld))
    if contamination.finished():
        return contamination
    with contamination.draft() as draft, stage(attempt, "prove"):
        table = read_table(corpus.folder, ["id", "text", "origin"])
        rows = []
        overlapping: set[str] = set()
        for name, artifact in withheld.items():
            against = read_table(artifact.folder, ["id", "text"])
            for origin in (HUMAN, SYNTHETIC):
                some = table.filter(pc.equal(table["origin"], origin))
                row, ids = _compared(some, against, settings.overlap)
                rows.append({"withheld": name, "origin": origin, **row})
                overlapping |= ids
        draft.write_part(pa.Table.from_pylist(rows, schema=CONTAMINATION))
        draft.facts = {"contaminated": len(overlapping)}
    if overlapping:
        logger.warning("%s · %d corpus records overlap what is withheld", attempt, len(overlapping))
    return contamination


def usable(reserve: Artifact, attempt: Attempt) -> int:
    """How many records of the reserve an attempt that was screened can mix with."""
    return without_dropped(read_table(reserve.folder, ["id"]), attempt.folder / "kept_out").num_rows


def _unsieved(pool: Sequence[tuple[Artifact, Artifact]], withheld: Withheld) -> Iterator[int]:
    asked = {artifact.fingerprint for artifact in withheld.values()}
    for place, (_, decided) in enumerate(pool):
        if not asked <= set(read_manifest(decided.folder)["parents"].values()):
            yield place


def _compared(some: pa.Table, against: pa.Table, settings: OverlapSettings) -> tuple[dict[str, object], set[str]]:
    """One row of the proof, and the ids of the records that overlap."""
    ids = some["id"].to_pylist()
    found: Overlaps = find_overlaps(some["text"].to_pylist(), against["text"].to_pylist(), settings)
    similar = np.nan_to_num(found.similarity)
    nearest = int(similar.argmax()) if similar.any() else None
    row = {
        "compared": len(ids),
        "overlapping": int(found.found.sum()),
        "similarity": float(similar.max(initial=0.0)),
        "id": None if nearest is None else ids[nearest],
        "keeper": None if nearest is None else against["id"][int(found.nearest[nearest])].as_py(),
        "shared_words": int(found.shared_words.max(initial=0)),
    }
    return row, {ids[place] for place in np.flatnonzero(found.found)}


def _known(table: pa.Table) -> Known:
    return Known(table["id"].to_pylist(), table["text"].to_pylist(), table["born"].to_pylist())
