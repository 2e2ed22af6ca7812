"""The sieves on one generation's candidates: one stored decision for every record and sieve that looked at it.

Each sieve's decisions are a part, and so are the vectors of some thousand texts: a killed curation goes on
behind its last whole part. What survived gets its index beside the decisions, for the generations after it.
"""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.decisions import NOBODY, Known
from curation.embeddings.base import Vectors, unit
from curation.embeddings.encoders import open_encoder
from curation.metrics.filter_rates import find_heavy_tolls
from curation.pipeline import CurateSettings, Traits, decide
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import DECISIONS, embeddings
from storage.artifacts.survivors import dropped_ids, read_survivors
from storage.runs.run import Attempt
from tasks.backends import Progress
from tasks.curation.decision_table import as_decisions
from tasks.curation.decontaminate import Withheld, as_parents, read_withheld
from tasks.curation.dedup_index import Pairs, index_survivors, open_past
from tasks.curation.filter_rates import count_tolls, earlier_tolls
from tasks.orchestration.prefect import verb
from tasks.orchestration.progress import logger, stage
from tasks.orchestration.runners import spread

_COLUMNS = ["id", "text", "born"]
_PART = 4096
"""Texts in a part of embeddings: about a minute of a small encoder on one core."""


@verb
def curate(
    attempt: Attempt,
    candidates: Artifact,
    reserve: Artifact,
    withheld: Withheld,
    earlier: Pairs,
    settings: CurateSettings,
) -> Artifact:
    """Publish the decisions; `earlier` are the candidates and decisions of the generations before."""
    parents = {f"decisions_{place}": decided for place, (_, decided) in enumerate(earlier)}
    decisions = attempt.artifact(
        "decisions",
        settings.model_dump(mode="json"),
        candidates=candidates,
        reserve=reserve,
        **as_parents(withheld),
        **parents,
    )
    if not decisions.finished():
        _decide(attempt, decisions, candidates, reserve, withheld, earlier, settings)
    if {"exact", "minhash"} & {*settings.stages} and settings.minhash.mask_common is None:
        index_survivors(candidates, decisions, settings.minhash)
    return decisions


def _decide(
    attempt: Attempt,
    decisions: Artifact,
    candidates: Artifact,
    reserve: Artifact,
    withheld: Withheld,
    earlier: Pairs,
    settings: CurateSettings,
) -> None:
    said = read_table(candidates.folder, [*_COLUMNS, "source"])
    known = _known(said)
    with decisions.draft() as draft, stage(attempt, "curate") as told:
        done = draft.parts()
        past = open_past(attempt, reserve, earlier, settings)
        # Whoever is found by an index is not read whole.
        whole = "importance" in settings.stages or not past
        sieves = decide(
            known.without(dropped_ids(draft.read(DECISIONS)).to_pylist()),
            read_withheld(withheld),
            _known(read_table(reserve.folder, _COLUMNS)) if whole else NOBODY,
            NOBODY if past else _survivors(earlier),
            settings,
            settings.stages[done:],
            lambda alive: _embedded(attempt, decisions, alive, settings, told),
            lambda alive: _traits(candidates, alive),
            exist=lambda: _existing(reserve, earlier, settings),
            past=past,
        )
        for number in range(done, len(settings.stages)):
            told(number, len(settings.stages))
            draft.write_part(as_decisions(next(sieves)), number)
        if not settings.stages:
            draft.write_part(DECISIONS.empty_table())
        made = draft.read(DECISIONS)
        dropped = len(dropped_ids(made))
        heavy = find_heavy_tolls(count_tolls(said, made), earlier_tolls(decisions, earlier))
        for toll in heavy:
            logger.warning("%s · %s", attempt, toll.reason)
        told_of = {"survivors": len(known.ids) - dropped, "dropped": dropped}
        draft.facts = {**told_of, "heavy_tolls": [asdict(toll) for toll in heavy]}


def _embedded(attempt: Attempt, decisions: Artifact, alive: Known, settings: CurateSettings, told: Progress) -> Vectors:
    """Vectors of the records that are alive, stored beside the decisions; what is stored is not embedded again.

    As stored, at half precision, so that an interrupted curation decides as one that was not.
    """
    artifact = Artifact(attempt.folder / "embeddings", decisions.settings, decisions.parents)
    if not alive.ids:
        return np.zeros((0, 0), np.float32)
    if not artifact.finished():
        # Long texts beside long texts: what a batch costs is its longest.
        order = sorted(range(len(alive.ids)), key=lambda place: (len(alive.texts[place]), place))
        with artifact.draft() as draft:
            parts = [order[start : start + _PART] for start in range(0, len(order), _PART)]
            left = parts[draft.parts() :]
            pieces = ((pa.array([alive.texts[place] for place in some]), settings) for some in left)
            for number, vectors in enumerate(spread(_encoded, pieces, "embed"), draft.parts()):
                lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
                ids = pa.array([alive.ids[place] for place in parts[number]])
                draft.write_part(pa.table([ids, lists], schema=embeddings(vectors.shape[1])), number)
                told((number + 1) * _PART, len(order))
            opened = open_encoder(settings.encoder, settings.embedding)
            draft.facts = {"truncated": opened.truncated(alive.texts)}
    stored = read_table(artifact.folder)
    rows = {identity: row for row, identity in enumerate(stored["id"].to_pylist())}
    vectors = stored["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1).astype(np.float32)
    return unit(vectors[[rows[identity] for identity in alive.ids]])


def _encoded(texts: pa.Array, settings: CurateSettings) -> NDArray[np.float16]:
    """Vectors of one part, as they are stored; on whichever machine."""
    return open_encoder(settings.encoder, settings.embedding).encode(texts.to_pylist()).astype(np.float16)


def _traits(candidates: Artifact, alive: Known) -> Traits:
    columns = ["id", "source", "log_probability", "completion_tokens", "prompt", "asking"]
    table = read_table(candidates.folder, columns)
    rows = {row["id"]: row for row in table.to_pylist()}
    told = [rows[identity] for identity in alive.ids]
    means = [
        row["log_probability"] / row["completion_tokens"]
        if row["log_probability"] is not None and row["completion_tokens"]
        else np.nan
        for row in told
    ]
    sources, prompts, askings = ([row[name] for row in told] for name in ("source", "prompt", "asking"))
    return Traits(sources, np.array(means, np.float64), prompts, askings)


def _existing(reserve: Artifact, earlier: Pairs, settings: CurateSettings) -> Vectors:
    """Vectors of the human records and of the survivors so far."""
    texts = [*read_table(reserve.folder, ["text"])["text"].to_pylist(), *_survivors(earlier).texts]
    return open_encoder(settings.encoder, settings.embedding).encode(texts)


def _survivors(earlier: Pairs) -> Known:
    tables = [read_survivors(made.folder, decided.folder).select(_COLUMNS) for made, decided in earlier]
    return _known(pa.concat_tables(tables)) if tables else NOBODY


def _known(table: pa.Table) -> Known:
    return Known(table["id"].to_pylist(), table["text"].to_pylist(), table["born"].to_pylist())
