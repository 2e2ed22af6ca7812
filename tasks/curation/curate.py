"""Filter the candidates of one generation; store a decision for every record and every filter that it reached.

The decisions of each filter are one part of the artifact, and so are the embeddings of a few thousand texts: an
interrupted curation resumes after its last finished part. The survivors get an index of their sketches beside the
decisions, for the generations after them.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.decisions import EMPTY_RECORDS, RecordSet
from curation.embeddings.base import Vectors, l2_normalize
from curation.embeddings.encoders import load_encoder
from curation.filters.base import Filter, FilterContext, Need, RecordMetadata
from curation.metrics.filter_rates import find_filter_rate_alerts
from curation.pipeline import CurateSettings, run_filters
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import DECISIONS, embeddings_schema
from storage.artifacts.survivors import dropped_ids
from storage.runs.run import Attempt
from tasks.backends import Progress
from tasks.context import CuratedCandidates, GenerationHistory, HumanData, StageContext, decision_parents
from tasks.curation.decision_table import to_stored_decisions
from tasks.curation.decontaminate import read_protected
from tasks.curation.dedup_index import index_survivors, open_reference_indexes
from tasks.curation.filter_rates import count_filter_rates, previous_filter_rates
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import logger, progress
from tasks.orchestration.runners import map_pieces

_RECORD_COLUMNS = ["id", "text", "source_generation"]
_PART_ROWS = 4096
"""Texts in a part of embeddings: about a minute of a small encoder on one core."""


@task
def curate(
    ctx: StageContext,
    human: HumanData,
    history: GenerationHistory,
    candidates: Artifact,
    check_results: Artifact | None = None,
) -> Artifact:
    """Publish the filter decisions about the candidates of this attempt.

    Args:
        ctx: context of the attempt.
        human: what candidates are compared with.
        history: generations whose survivors they are compared with.
        candidates: the records to decide about.
        check_results: what the stage `verify` found about them, for the filter `checks`.
    """
    settings = ctx.recipe.curate
    code_hashes = settings.user_code_hashes()
    verified = {"check_results": check_results} if check_results else {}
    decisions = ctx.attempt.artifact(
        "decisions",
        settings.model_dump(mode="json") | ({"user_code": code_hashes} if code_hashes else {}),
        candidates=candidates,
        human_train=human.train,
        **verified,
        **human.protected_parents,
        **decision_parents(history.synthetic),
    )
    curated = CuratedCandidates(candidates=candidates, decisions=decisions, check_results=check_results)
    if not decisions.exists():
        _decide(ctx, human, history, curated)
    uses_index = "survivor_index" in _all_needs(settings.build_filters())
    if uses_index and settings.minhash.max_shingle_document_frequency is None:
        index_survivors(curated, settings.minhash)
    return decisions


def _decide(ctx: StageContext, human: HumanData, history: GenerationHistory, curated: CuratedCandidates) -> None:
    table = read_table(curated.candidates.folder, [*_RECORD_COLUMNS, "source"])
    records, filters = RecordSet.from_table(table), ctx.recipe.curate.build_filters()
    with curated.decisions.draft() as draft, progress(ctx.attempt, "curate") as report_progress:
        num_done = draft.num_parts()
        context = _load_context(ctx, human, history, curated, report_progress)
        remaining = records.exclude(dropped_ids(draft.read(DECISIONS)).to_pylist())
        for number, decided in enumerate(run_filters(filters[num_done:], remaining, context), num_done):
            draft.write_part(to_stored_decisions(decided), number)
            report_progress(number + 1, len(filters))
        if not filters:
            draft.write_part(DECISIONS.empty_table())
        stored = draft.read(DECISIONS)
        num_dropped = len(dropped_ids(stored))
        baseline = previous_filter_rates(curated.decisions, history.synthetic)
        alerts = find_filter_rate_alerts(count_filter_rates(table, stored), baseline)
        for alert in alerts:
            logger.warning("%s · %s", ctx.attempt, alert.reason)
        draft.facts = {
            "survivors": len(records) - num_dropped,
            "dropped": num_dropped,
            "filter_rate_alerts": [asdict(alert) for alert in alerts],
        }


def _load_context(
    ctx: StageContext,
    human: HumanData,
    history: GenerationHistory,
    curated: CuratedCandidates,
    report_progress: Progress,
) -> FilterContext:
    """Load what the filters of the recipe need. Texts that have an index are not read."""
    attempt, settings, synthetic = ctx.attempt, ctx.recipe.curate, history.synthetic
    needs = _all_needs(settings.build_filters())
    indexes = open_reference_indexes(attempt, human.train, synthetic, settings)
    reads_human = "human_train" in needs or ("human_index" in needs and indexes.human_train is None)
    reads_survivors = "survivors" in needs or ("survivor_index" in needs and indexes.survivors is None)
    return FilterContext(
        human_train=_read_records(human.train) if reads_human else EMPTY_RECORDS,
        protected=read_protected(human) if "protected" in needs else EMPTY_RECORDS,
        survivors=_read_survivors(synthetic) if reads_survivors else EMPTY_RECORDS,
        human_index=indexes.human_train,
        survivor_index=indexes.survivors,
        embed=lambda records: _embed_stored(attempt, curated.decisions, records, settings, report_progress),
        embed_known=lambda: _embed_known(human.train, synthetic, settings),
        check_results=_read_check_results(curated) if "check_results" in needs else None,
        describe=lambda records: _read_metadata(curated.candidates, records),
        seed=ctx.seed("filters"),
    )


def _read_check_results(curated: CuratedCandidates) -> pa.Table | None:
    if curated.check_results is None:
        return None
    return read_table(curated.check_results.folder, ["id", "passed", "outcome", "detail"])


def _all_needs(filters: Sequence[Filter]) -> Collection[Need]:
    return {need for each in filters for need in each.needs}


def _embed_stored(
    attempt: Attempt, decisions: Artifact, records: RecordSet, settings: CurateSettings, report_progress: Progress
) -> Vectors:
    """Embeddings of records, from the artifact beside the decisions, which is published first if it is missing.

    They are always read from the artifact, in half precision, so that a resumed curation decides as an uninterrupted
    one.
    """
    artifact = Artifact(attempt.folder / "embeddings", decisions.settings, decisions.parents)
    if not len(records):
        return np.zeros((0, 0), np.float32)
    if not artifact.exists():
        _publish_embeddings(artifact, records, settings, report_progress)
    stored = read_table(artifact.folder)
    vectors = stored["vector"].combine_chunks().flatten().to_numpy().reshape(len(stored), -1).astype(np.float32)
    return l2_normalize(vectors[_find_rows(records, stored).to_numpy()])


def _publish_embeddings(
    artifact: Artifact, records: RecordSet, settings: CurateSettings, report_progress: Progress
) -> None:
    # Sorted by length: the cost of a batch is that of its longest text.
    order = np.argsort(pc.utf8_length(records.texts).to_numpy(), kind="stable")
    with artifact.draft() as draft:
        starts = range(draft.num_parts() * _PART_ROWS, len(order), _PART_ROWS)
        parts = [order[start : start + _PART_ROWS] for start in starts]
        pieces = ((records.texts.take(rows).cast(pa.string()), settings) for rows in parts)
        encoded = map_pieces(_encode_part, pieces, "embed")
        for number, (rows, vectors) in enumerate(zip(parts, encoded, strict=True), draft.num_parts()):
            lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            ids = records.ids.take(rows).cast(pa.string())
            draft.write_part(pa.table([ids, lists], schema=embeddings_schema(vectors.shape[1])), number)
            report_progress((number + 1) * _PART_ROWS, len(order))
        encoder = load_encoder(settings.encoder, settings.embedding)
        draft.facts = {"truncated": encoder.count_truncated(records.text_list)}


def _encode_part(texts: pa.Array, settings: CurateSettings) -> NDArray[np.float16]:
    """Embeddings of one part as they are stored; runs in any process or on any machine."""
    return load_encoder(settings.encoder, settings.embedding).encode(texts.to_pylist()).astype(np.float16)


def _read_metadata(candidates: Artifact, records: RecordSet) -> RecordMetadata:
    """How the records were generated, in their order."""
    columns = ["id", "source", "sum_logprob", "completion_tokens", "prompt", "prompt_id"]
    table = read_table(candidates.folder, columns)
    table = table.take(_find_rows(records, table))
    num_tokens = table["completion_tokens"].cast(pa.float64())
    num_tokens = pc.if_else(pc.greater(num_tokens, 0), num_tokens, None)
    mean_logprobs = pc.divide(table["sum_logprob"], num_tokens)
    return RecordMetadata(
        sources=table["source"].to_pylist(),
        mean_logprobs=mean_logprobs.to_numpy().astype(np.float64),
        prompts=table["prompt"].to_pylist(),
        prompt_ids=table["prompt_id"].to_pylist(),
    )


def _find_rows(records: RecordSet, table: pa.Table) -> pa.Array:
    """The row of each record in a table with the column `id`."""
    return pc.index_in(records.ids, value_set=table["id"].cast(pa.large_string()).combine_chunks())


def _embed_known(human_train: Artifact, synthetic: Sequence[CuratedCandidates], settings: CurateSettings) -> Vectors:
    """Embeddings of the human training records and of the survivors so far."""
    texts = _read_records(human_train).text_list + _read_survivors(synthetic).text_list
    return load_encoder(settings.encoder, settings.embedding).encode(texts)


def _read_records(artifact: Artifact) -> RecordSet:
    return RecordSet.from_table(read_table(artifact.folder, _RECORD_COLUMNS))


def _read_survivors(synthetic: Sequence[CuratedCandidates]) -> RecordSet:
    tables = [curated.survivors(_RECORD_COLUMNS) for curated in synthetic]
    return RecordSet.from_table(pa.concat_tables(tables)) if tables else EMPTY_RECORDS
