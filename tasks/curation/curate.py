"""The sieves on one generation's candidates: one stored decision for every record and sieve that looked at it.

Each sieve's decisions are a part, and so are the vectors of some thousand texts: a killed curation goes on
behind its last whole part. What survived gets its index beside the decisions, for the generations after it.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.decisions import EMPTY_RECORDS, RecordSet
from curation.embeddings.base import Vectors, l2_normalize
from curation.embeddings.encoders import load_encoder
from curation.metrics.filter_rates import find_filter_rate_alerts
from curation.pipeline import CurateSettings, RecordMetadata, run_filters
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import DECISIONS, embeddings_schema
from storage.artifacts.survivors import dropped_ids
from storage.runs.run import Attempt
from tasks.backends import Progress
from tasks.context import CuratedCandidates, GenerationHistory, HumanData, StageContext, decision_parents
from tasks.curation.decision_table import as_decisions
from tasks.curation.decontaminate import read_protected
from tasks.curation.dedup_index import index_survivors, open_reference_indexes
from tasks.curation.filter_rates import count_filter_rates, previous_filter_rates
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import logger, progress
from tasks.orchestration.runners import map_pieces

_COLUMNS = ["id", "text", "source_generation"]
_PART = 4096
"""Texts in a part of embeddings: about a minute of a small encoder on one core."""


@task
def curate(ctx: StageContext, human: HumanData, history: GenerationHistory, candidates: Artifact) -> Artifact:
    """Publish the filter decisions about the candidates of this attempt."""
    settings = ctx.recipe.curate
    decisions = ctx.attempt.artifact(
        "decisions",
        settings.model_dump(mode="json"),
        candidates=candidates,
        human_train=human.train,
        **human.protected_parents,
        **decision_parents(history.synthetic),
    )
    curated = CuratedCandidates(candidates=candidates, decisions=decisions)
    if not decisions.exists():
        _decide(ctx, human, history, curated)
    if {"exact", "minhash"} & {*settings.filters} and settings.minhash.max_shingle_document_frequency is None:
        index_survivors(curated, settings.minhash)
    return decisions


def _decide(ctx: StageContext, human: HumanData, history: GenerationHistory, curated: CuratedCandidates) -> None:
    attempt, settings, earlier = ctx.attempt, ctx.recipe.curate, history.synthetic
    candidates, decisions = curated.candidates, curated.decisions
    said = read_table(candidates.folder, [*_COLUMNS, "source"])
    known = _known(said)
    with decisions.draft() as draft, progress(attempt, "curate") as told:
        done = draft.num_parts()
        past = open_reference_indexes(attempt, human.train, earlier, settings)
        # Whoever is found by an index is not read whole.
        whole = "importance_resampling" in settings.filters or not past
        sieves = run_filters(
            known.exclude(dropped_ids(draft.read(DECISIONS)).to_pylist()),
            read_protected(human),
            _known(read_table(human.train.folder, _COLUMNS)) if whole else EMPTY_RECORDS,
            EMPTY_RECORDS if past else _survivors(earlier),
            settings,
            settings.filters[done:],
            lambda records: _embedded(attempt, decisions, records, settings, told),
            lambda records: _traits(candidates, records),
            load_reference_vectors=lambda: _existing(human.train, earlier, settings),
            indexes=past,
        )
        for number in range(done, len(settings.filters)):
            told(number, len(settings.filters))
            draft.write_part(as_decisions(next(sieves)), number)
        if not settings.filters:
            draft.write_part(DECISIONS.empty_table())
        made = draft.read(DECISIONS)
        dropped = len(dropped_ids(made))
        heavy = find_filter_rate_alerts(count_filter_rates(said, made), previous_filter_rates(decisions, earlier))
        for toll in heavy:
            logger.warning("%s · %s", attempt, toll.reason)
        told_of = {"survivors": len(known.ids) - dropped, "dropped": dropped}
        draft.facts = {**told_of, "filter_rate_alerts": [asdict(toll) for toll in heavy]}


def _embedded(
    attempt: Attempt, decisions: Artifact, records: RecordSet, settings: CurateSettings, told: Progress
) -> Vectors:
    """Vectors of the records that are records, stored beside the decisions; what is stored is not embedded again.

    As stored, at half precision, so that an interrupted curation decides as one that was not.
    """
    artifact = Artifact(attempt.folder / "embeddings", decisions.settings, decisions.parents)
    if not records.ids:
        return np.zeros((0, 0), np.float32)
    if not artifact.exists():
        # Long texts beside long texts: what a batch costs is its longest.
        order = sorted(range(len(records.ids)), key=lambda place: (len(records.texts[place]), place))
        with artifact.draft() as draft:
            parts = [order[start : start + _PART] for start in range(0, len(order), _PART)]
            left = parts[draft.num_parts() :]
            pieces = ((pa.array([records.texts[place] for place in some]), settings) for some in left)
            for number, vectors in enumerate(map_pieces(_encoded, pieces, "embed"), draft.num_parts()):
                lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
                ids = pa.array([records.ids[place] for place in parts[number]])
                draft.write_part(pa.table([ids, lists], schema=embeddings_schema(vectors.shape[1])), number)
                told((number + 1) * _PART, len(order))
            opened = load_encoder(settings.encoder, settings.embedding)
            draft.facts = {"truncated": opened.count_truncated(records.texts)}
    stored = read_table(artifact.folder)
    rows = {identity: row for row, identity in enumerate(stored["id"].to_pylist())}
    vectors = stored["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1).astype(np.float32)
    return l2_normalize(vectors[[rows[identity] for identity in records.ids]])


def _encoded(texts: pa.Array, settings: CurateSettings) -> NDArray[np.float16]:
    """Vectors of one part, as they are stored; on whichever machine."""
    return load_encoder(settings.encoder, settings.embedding).encode(texts.to_pylist()).astype(np.float16)


def _traits(candidates: Artifact, records: RecordSet) -> RecordMetadata:
    columns = ["id", "source", "sum_logprob", "completion_tokens", "prompt", "prompt_id"]
    table = read_table(candidates.folder, columns)
    rows = {row["id"]: row for row in table.to_pylist()}
    told = [rows[identity] for identity in records.ids]
    means = [
        row["sum_logprob"] / row["completion_tokens"]
        if row["sum_logprob"] is not None and row["completion_tokens"]
        else np.nan
        for row in told
    ]
    sources, prompts, askings = ([row[name] for row in told] for name in ("source", "prompt", "prompt_id"))
    return RecordMetadata(sources, np.array(means, np.float64), prompts, askings)


def _existing(reserve: Artifact, earlier: Sequence[CuratedCandidates], settings: CurateSettings) -> Vectors:
    """Vectors of the human records and of the survivors so far."""
    texts = [*read_table(reserve.folder, ["text"])["text"].to_pylist(), *_survivors(earlier).texts]
    return load_encoder(settings.encoder, settings.embedding).encode(texts)


def _survivors(earlier: Sequence[CuratedCandidates]) -> RecordSet:
    tables = [curated.survivors(_COLUMNS) for curated in earlier]
    return _known(pa.concat_tables(tables)) if tables else EMPTY_RECORDS


def _known(table: pa.Table) -> RecordSet:
    return RecordSet(table["id"].to_pylist(), table["text"].to_pylist(), table["source_generation"].to_pylist())
