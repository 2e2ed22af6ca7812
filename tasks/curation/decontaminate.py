"""What must stay out of a generation, what therefore stays out, and the proof that it did.

ProtectedSets are the held-out records of the snapshot that an attempt pins and the evaluation sets it knew when it
began. Before a model speaks, `screen` says which records may be neither prompted from nor learned from; once
a corpus stands, `prove` compares all of it with all that is withheld, whatever the sieves were.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions import Decision, RecordSet
from curation.filters.decontamination import Overlaps, OverlapSettings, find_overlaps
from curation.pipeline import CurateSettings, decontaminate
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.artifacts.schemas import CONTAMINATION_REPORT, DECISIONS, HUMAN, SYNTHETIC
from storage.artifacts.survivors import read_survivors, without_dropped
from storage.datasets.eval_sets import load_eval_set
from storage.runs.run import Attempt
from storage.runs.status import rejected_by_review
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import logger, progress

_COLUMNS = ["id", "text", "source_generation"]

ProtectedSets = Mapping[str, Artifact]
"""The held-out set as `human_heldout`, and each evaluation set by its name."""


def load_protected_sets(attempt: Attempt, human_train: Artifact) -> dict[str, Artifact]:
    """What an attempt that has pinned this reserve keeps out: the held-out set beside it, and evaluation sets.

    Raises:
        ArtifactMissingError: an evaluation set that it knew is no longer there.
    """
    heldout = replace(human_train, folder=human_train.folder.with_name("human_heldout"))
    human = human_train.folder.parents[1].name
    names = attempt.run.pinned_eval_sets(attempt.generation, attempt.number)
    return {"human_heldout": heldout} | {name: load_eval_set(attempt.run.root, human, name) for name in names}


def protected_parents(protected: ProtectedSets) -> dict[str, Artifact]:
    """What is withheld, under the names by which manifests call it."""
    return {name if name == "human_heldout" else f"eval_set_{name}": artifact for name, artifact in protected.items()}


def read_protected(protected: ProtectedSets) -> RecordSet:
    """Every withheld record."""
    return _known(pa.concat_tables(read_table(artifact.folder, _COLUMNS) for artifact in protected.values()))


@task
def find_excluded_records(
    attempt: Attempt,
    human_train: Artifact,
    protected: ProtectedSets,
    history: Sequence[tuple[Artifact, Artifact]],
    settings: CurateSettings,
) -> Artifact:
    """Publish a decision against each record that overlaps what is withheld, or that a person has rejected.

    Looked at are the reserve, and survivors of earlier generations that were sieved before a set was there.

    Raises:
        HeirloomError: no record of the reserve is left.
    """
    unsieved = list(_unsieved(history, protected)) if "decontamination" in settings.filters else []
    parents = {f"decisions_{place}": history[place][1] for place in unsieved}
    rejected = rejected_by_review(attempt)
    identity = settings.overlap.model_dump(mode="json") | ({"refused": sorted(rejected)} if rejected else {})
    excluded_records = attempt.artifact(
        "excluded_records", identity, human_train=human_train, **protected_parents(protected), **parents
    )
    if excluded_records.exists():
        return excluded_records
    with excluded_records.draft() as draft, progress(attempt, "find_excluded_records"):
        against = read_protected(protected)
        dropped = [asdict(Decision(one, "review", kept=False, reason=why)) for one, why in rejected.items()]
        human = read_table(human_train.folder, _COLUMNS)
        survivors = [read_survivors(*(one.folder for one in history[place])).select(_COLUMNS) for place in unsieved]
        for table in (human, *survivors):
            decided = decontaminate(_known(table), against, settings.overlap)
            dropped += [asdict(one) for one in decided if not one.kept and one.id not in rejected]
        if {*human["id"].to_pylist()} <= {one["id"] for one in dropped}:
            raise HeirloomError(
                f"{attempt}: every record of the reserve overlaps what is withheld, or was rejected; ingest more text"
            )
        draft.write_part(pa.Table.from_pylist(dropped, schema=DECISIONS))
        draft.facts = {"screened": human.num_rows + sum(map(len, survivors)), "excluded_records": len(dropped)}
    return excluded_records


@task
def check_contamination(
    attempt: Attempt, corpus: Artifact, protected: ProtectedSets, settings: CurateSettings
) -> Artifact:
    """Publish what the corpus shares with each withheld set; zero overlapping is the promise kept."""
    identity = settings.overlap.model_dump(mode="json")
    contamination = attempt.artifact("contamination_report", identity, corpus=corpus, **protected_parents(protected))
    if contamination.exists():
        return contamination
    with contamination.draft() as draft, progress(attempt, "check_contamination"):
        table = read_table(corpus.folder, ["id", "text", "origin"])
        rows = []
        overlapping: set[str] = set()
        for name, artifact in protected.items():
            against = read_table(artifact.folder, ["id", "text"])
            for origin in (HUMAN, SYNTHETIC):
                some = table.filter(pc.equal(table["origin"], origin))
                row, ids = _compared(some, against, settings.overlap)
                rows.append({"eval_set": name, "origin": origin, **row})
                overlapping |= ids
        draft.write_part(pa.Table.from_pylist(rows, schema=CONTAMINATION_REPORT))
        draft.facts = {"contaminated": len(overlapping)}
    if overlapping:
        logger.warning("%s · %d corpus records overlap what is withheld", attempt, len(overlapping))
    return contamination


def count_usable(human_train: Artifact, attempt: Attempt) -> int:
    """How many records of the reserve an attempt that was screened can mix with."""
    return without_dropped(read_table(human_train.folder, ["id"]), attempt.folder / "excluded_records").num_rows


def _unsieved(pool: Sequence[tuple[Artifact, Artifact]], withheld: ProtectedSets) -> Iterator[int]:
    asked = {artifact.fingerprint for artifact in withheld.values()}
    for place, (_, decided) in enumerate(pool):
        if not asked <= set(read_manifest(decided.folder)["parents"].values()):
            yield place


def _compared(some: pa.Table, against: pa.Table, settings: OverlapSettings) -> tuple[dict[str, object], set[str]]:
    """One row of the proof, and the ids of the records that overlap."""
    ids = some["id"].to_pylist()
    found: Overlaps = find_overlaps(some["text"].to_pylist(), against["text"].to_pylist(), settings)
    similar = np.nan_to_num(found.jaccard)
    nearest = int(similar.argmax()) if similar.any() else None
    row = {
        "num_compared": len(ids),
        "num_overlapping": int(found.is_contaminated.sum()),
        "max_jaccard": float(similar.max(initial=0.0)),
        "id": None if nearest is None else ids[nearest],
        "duplicate_of": None if nearest is None else against["id"][int(found.nearest[nearest])].as_py(),
        "shared_run_words": int(found.shared_run.max(initial=0)),
    }
    return row, {ids[place] for place in np.flatnonzero(found.is_contaminated)}


def _known(table: pa.Table) -> RecordSet:
    return RecordSet(table["id"].to_pylist(), table["text"].to_pylist(), table["source_generation"].to_pylist())
