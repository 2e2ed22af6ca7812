"""What must stay out of a generation, what therefore stays out, and the proof that it did.

ProtectedSets are the held-out records of the snapshot that an attempt pins and the evaluation sets it knew when it
began. Before a model speaks, `screen` says which records may be neither prompted from nor learned from; once
a corpus stands, `prove` compares all of it with all that is withheld, whatever the sieves were.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions import Decision, RecordSet
from curation.filters.decontamination import Overlaps, OverlapSettings, find_overlaps
from curation.pipeline import decontaminate
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.artifacts.schemas import CONTAMINATION_REPORT, DECISIONS, HUMAN, SYNTHETIC
from storage.artifacts.survivors import without_dropped
from storage.runs.run import Attempt
from storage.runs.status import rejected_by_review
from tasks.context import CuratedCandidates, GenerationHistory, HumanData, StageContext
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import logger, progress

_COLUMNS = ["id", "text", "source_generation"]


def read_protected(human: HumanData) -> RecordSet:
    """Read every protected record."""
    return _known(pa.concat_tables(read_table(artifact.folder, _COLUMNS) for artifact in human.protected.values()))


@task
def find_excluded_records(ctx: StageContext, human: HumanData, history: GenerationHistory) -> Artifact:
    """Publish a decision against each record that overlaps what is withheld, or that a person has rejected.

    Looked at are the reserve, and survivors of earlier generations that were sieved before a set was there.

    Raises:
        HeirloomError: no record of the reserve is left.
    """
    attempt, settings = ctx.attempt, ctx.recipe.curate
    unsieved = _unsieved(history.synthetic, human) if "decontamination" in settings.filters else {}
    parents = {f"decisions_{place}": curated.decisions for place, curated in unsieved.items()}
    rejected = rejected_by_review(attempt)
    identity = settings.overlap.model_dump(mode="json") | ({"refused": sorted(rejected)} if rejected else {})
    excluded_records = attempt.artifact(
        "excluded_records", identity, human_train=human.train, **human.protected_parents, **parents
    )
    if excluded_records.exists():
        return excluded_records
    with excluded_records.draft() as draft, progress(attempt, "find_excluded_records"):
        against = read_protected(human)
        dropped = [asdict(Decision(one, "review", kept=False, reason=why)) for one, why in rejected.items()]
        records = read_table(human.train.folder, _COLUMNS)
        survivors = [curated.survivors(_COLUMNS) for curated in unsieved.values()]
        for table in (records, *survivors):
            decided = decontaminate(_known(table), against, settings.overlap)
            dropped += [asdict(one) for one in decided if not one.kept and one.id not in rejected]
        if {*records["id"].to_pylist()} <= {one["id"] for one in dropped}:
            raise HeirloomError(
                f"{attempt}: every record of the reserve overlaps what is withheld, or was rejected; ingest more text"
            )
        draft.write_part(pa.Table.from_pylist(dropped, schema=DECISIONS))
        draft.facts = {"screened": records.num_rows + sum(map(len, survivors)), "excluded_records": len(dropped)}
    return excluded_records


@task
def check_contamination(ctx: StageContext, human: HumanData, corpus: Artifact) -> Artifact:
    """Publish the overlap of the corpus with each protected set; no record of it should overlap."""
    attempt, settings = ctx.attempt, ctx.recipe.curate
    identity = settings.overlap.model_dump(mode="json")
    contamination = attempt.artifact("contamination_report", identity, corpus=corpus, **human.protected_parents)
    if contamination.exists():
        return contamination
    with contamination.draft() as draft, progress(attempt, "check_contamination"):
        table = read_table(corpus.folder, ["id", "text", "origin"])
        rows = []
        overlapping: set[str] = set()
        for name, artifact in human.protected.items():
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


def _unsieved(synthetic: Sequence[CuratedCandidates], human: HumanData) -> dict[int, CuratedCandidates]:
    """Find the generations that were filtered before some protected set existed, by their place in the history."""
    protected = {artifact.fingerprint for artifact in human.protected.values()}
    return {
        place: curated
        for place, curated in enumerate(synthetic)
        if not protected <= set(read_manifest(curated.decisions.folder)["parents"].values())
    }


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
