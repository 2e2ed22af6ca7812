"""Keep protected records out of a generation, and check that they stayed out.

Protected are the held-out records of the snapshot that an attempt pins, and the eval sets that existed when it began.
Before candidates are generated, `find_excluded_records` lists the records that may be neither prompted with nor trained
on. `check_contamination` compares the finished corpus with every protected set, whatever the filters were.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.decisions import EMPTY_RECORDS, FilterResult, RecordSet, decision_table
from curation.filters.decontamination import OverlapSettings, decontaminate, find_overlaps
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.artifacts.schemas import CONTAMINATION_REPORT, HUMAN, SYNTHETIC
from storage.artifacts.survivors import without_dropped
from storage.runs.run import Attempt
from storage.runs.status import rejected_by_review
from tasks.context import CuratedCandidates, GenerationHistory, HumanData, StageContext
from tasks.curation.decision_table import to_stored_decisions
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import logger, progress

_RECORD_COLUMNS = ["id", "text", "source_generation"]


def read_protected(human: HumanData) -> RecordSet:
    """Read every protected record."""
    tables = [read_table(artifact.folder, _RECORD_COLUMNS) for artifact in human.protected.values()]
    return RecordSet.from_table(pa.concat_tables(tables)) if tables else EMPTY_RECORDS


@task
def find_excluded_records(ctx: StageContext, human: HumanData, history: GenerationHistory) -> Artifact:
    """Publish a decision against each record that overlaps a protected one, or that a reviewer rejected.

    The human training records are compared, and the survivors of generations that were filtered before a protected set
    existed.

    Raises:
        HeirloomError: every human training record is excluded.
    """
    attempt, settings = ctx.attempt, ctx.recipe.curate
    unchecked = _find_unchecked(history.synthetic, human) if "decontamination" in settings.filters else {}
    parents = {f"decisions_{position}": curated.decisions for position, curated in unchecked.items()}
    rejected = rejected_by_review(attempt)
    identity = settings.overlap.model_dump(mode="json") | ({"refused": sorted(rejected)} if rejected else {})
    excluded_records = attempt.artifact(
        "excluded_records", identity, human_train=human.train, **human.protected_parents, **parents
    )
    if excluded_records.exists():
        return excluded_records
    with excluded_records.draft() as draft, progress(attempt, "find_excluded_records"):
        human_train = RecordSet.from_table(read_table(human.train.folder, _RECORD_COLUMNS))
        survivors = [RecordSet.from_table(curated.survivors(_RECORD_COLUMNS)) for curated in unchecked.values()]
        compared = [human_train, *survivors]
        protected = read_protected(human)
        excluded = pa.concat_tables(
            [
                _review_decisions(rejected),
                *(_find_overlapping(records, protected, settings.overlap, rejected) for records in compared),
            ]
        )
        if pc.all(pc.is_in(human_train.ids, value_set=excluded["id"].cast(pa.large_string()))).as_py():
            raise HeirloomError(
                f"{attempt}: every human training record overlaps a protected record or was rejected; ingest more text"
            )
        draft.write_part(excluded.combine_chunks())
        draft.facts = {"screened": sum(map(len, compared)), "excluded_records": len(excluded)}
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
            protected = read_table(artifact.folder, ["id", "text"])
            for origin in (HUMAN, SYNTHETIC):
                records = table.filter(pc.equal(table["origin"], origin))
                row, overlapping_ids = _compare(records, protected, settings.overlap)
                rows.append({"eval_set": name, "origin": origin, **row})
                overlapping |= overlapping_ids
        draft.write_part(pa.Table.from_pylist(rows, schema=CONTAMINATION_REPORT))
        draft.facts = {"contaminated": len(overlapping)}
    if overlapping:
        logger.warning("%s · %d corpus records overlap protected records", attempt, len(overlapping))
    return contamination


def count_usable(human_train: Artifact, attempt: Attempt) -> int:
    """Number of human training records that are not excluded from this attempt."""
    return without_dropped(read_table(human_train.folder, ["id"]), attempt.folder / "excluded_records").num_rows


def _find_unchecked(synthetic: Sequence[CuratedCandidates], human: HumanData) -> dict[int, CuratedCandidates]:
    """Generations that were filtered before some protected set existed, by their position in the history."""
    protected = {artifact.fingerprint for artifact in human.protected.values()}
    return {
        position: curated
        for position, curated in enumerate(synthetic)
        if not protected <= set(read_manifest(curated.decisions.folder)["parents"].values())
    }


def _review_decisions(rejected: Mapping[str, str]) -> pa.Table:
    """Decisions against the records that a reviewer rejected, from their reasons by id."""
    ids = list(rejected)
    records = RecordSet(ids, [""] * len(ids), [0] * len(ids))
    return to_stored_decisions(decision_table("review", records, FilterResult(reason=list(rejected.values()))))


def _find_overlapping(
    records: RecordSet, protected: RecordSet, settings: OverlapSettings, rejected: Collection[str]
) -> pa.Table:
    """Decisions against the records that overlap a protected one; without those that are rejected anyway."""
    decisions = decision_table("decontamination", records, decontaminate(records, protected, settings))
    known = pa.array(list(rejected), pa.large_string())
    new = pc.and_not(pc.invert(decisions["kept"]), pc.is_in(decisions["id"], value_set=known))
    return to_stored_decisions(decisions.filter(new))


def _compare(records: pa.Table, protected: pa.Table, settings: OverlapSettings) -> tuple[dict[str, object], set[str]]:
    """One row of the contamination report, and the ids of the records that overlap."""
    ids = records["id"].to_pylist()
    overlaps = find_overlaps(records["text"].to_pylist(), protected["text"].to_pylist(), settings)
    jaccard = np.nan_to_num(overlaps.jaccard)
    nearest = int(jaccard.argmax()) if jaccard.any() else None
    row = {
        "num_compared": len(ids),
        "num_overlapping": int(overlaps.is_contaminated.sum()),
        "max_jaccard": float(jaccard.max(initial=0.0)),
        "id": None if nearest is None else ids[nearest],
        "duplicate_of": None if nearest is None else protected["id"][int(overlaps.nearest[nearest])].as_py(),
        "shared_run_words": int(overlaps.shared_run.max(initial=0)),
    }
    return row, {ids[row_number] for row_number in np.flatnonzero(overlaps.is_contaminated)}
