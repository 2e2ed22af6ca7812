"""Mix human records and survivors into the corpus that the next model trains on.

The sizes follow `[mix]` to the record; every record is in a corpus at most once.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.mixing import MixIndices, MixPools, MixSettings, Strata, draw_mix
from curation.selection.sampling import rarest_word_bin
from curation.text import words
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import CORPUS, HUMAN, SYNTHETIC
from storage.artifacts.survivors import without_dropped
from tasks.context import CuratedCandidates, GenerationHistory, HumanData, StageContext, decision_parents
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import progress

_COLUMNS = ["id", "text", "origin", "source_generation", "source", "text_hash", "messages", "tools"]


@task
def mix(
    ctx: StageContext,
    human: HumanData,
    history: GenerationHistory,
    curated: CuratedCandidates | None = None,
    excluded: Artifact | None = None,
) -> Artifact:
    """Publish the corpus of this attempt.

    Args:
        ctx: context of the attempt.
        human: its training pool is mixed in.
        history: generations whose survivors, or whose last corpus, a policy may use.
        curated: candidates of this attempt. Without them the corpus is the training pool, as in generation 0.
        excluded: decisions against human records and survivors that the corpus must not contain.

    Raises:
        HeirloomError: the policy needs more records than there are, or the corpus would be empty.
    """
    attempt, settings = ctx.attempt, ctx.recipe.mix
    synthetic = (*history.synthetic, curated) if curated else ()
    identity = {"mix": settings.model_dump(mode="json"), "seed": ctx.recipe.seed} if curated else {"mix": "human_train"}
    parents = {"human_train": human.train, **decision_parents(synthetic)}
    if excluded:
        parents["excluded_records"] = excluded
    previous_corpus = history.last.corpus if curated and history.last and settings.reuses_last_corpus else None
    if previous_corpus:
        parents["previous_corpus"] = previous_corpus
    corpus = attempt.artifact("corpus", identity, **parents)
    if corpus.exists():
        return corpus
    with corpus.draft() as draft, progress(attempt, "mix"):
        pools = _read_pools(human.train, synthetic, excluded)
        if curated:
            effective = settings.for_generation(attempt.generation)
            indices = _draw(effective, pools, curated, previous_corpus, ctx.seed("mix"))
            repeats = {HUMAN: settings.human_repeats, SYNTHETIC: settings.synthetic_repeats}
        else:
            indices = MixIndices(np.arange(pools.human.num_rows), np.arange(0), np.arange(0))
            # A corpus of one origin has nothing to weigh it against.
            repeats = {HUMAN: 1.0}
        table = pools.take(indices)
        if not table.num_rows:
            raise HeirloomError(
                f"{attempt}: the corpus would be empty, since curation dropped every candidate. "
                "Loosen `[curate]`, or choose a `mix.policy` with human records."
            )
        weights = [repeats[origin] for origin in table["origin"].to_pylist()]
        weighted = table.append_column("weight", pa.array(weights, pa.float64()))
        draft.write_part(weighted.select(CORPUS.names).cast(CORPUS))
        draft.facts = {
            "corpus": table.num_rows,
            "human": len(indices.human),
            "human_fraction": indices.human_fraction,
            "snapshot": int(human.train.folder.parent.name.split("=")[1]),
        }
    return corpus


@dataclass(frozen=True, kw_only=True)
class _RecordPools:
    """Records that a corpus can be drawn from."""

    human: pa.Table
    newest: pa.Table
    """Survivors of this attempt."""
    earlier: pa.Table
    """Survivors of earlier generations."""

    def take(self, indices: MixIndices) -> pa.Table:
        """Return the drawn records: human, earlier, then newest."""
        return pa.concat_tables(
            [self.human.take(indices.human), self.earlier.take(indices.earlier), self.newest.take(indices.newest)]
        )


def _read_pools(
    human_train: Artifact, synthetic: Sequence[CuratedCandidates], excluded: Artifact | None
) -> _RecordPools:
    human = read_table(human_train.folder, _COLUMNS)
    survivors = [curated.survivors(_COLUMNS) for curated in synthetic]
    if excluded:
        human = without_dropped(human, excluded.folder)
        survivors = [without_dropped(table, excluded.folder) for table in survivors]
    no_records = human.schema.empty_table()
    return _RecordPools(
        human=human,
        newest=survivors[-1] if survivors else no_records,
        earlier=pa.concat_tables([no_records, *survivors[:-1]]),
    )


def _draw(
    settings: MixSettings, pools: _RecordPools, curated: CuratedCandidates, previous_corpus: Artifact | None, seed: int
) -> MixIndices:
    previous_ids = pa.array([], pa.string())
    if previous_corpus:
        previous_ids = read_table(previous_corpus.folder, ["id"])["id"].combine_chunks()
    mix_pools = MixPools(
        num_human=pools.human.num_rows,
        num_newest=pools.newest.num_rows,
        num_earlier=pools.earlier.num_rows,
        human_sources=pools.human["source"].to_pylist(),
        strata=_strata(settings, pools, curated),
        last_human=_rows_with_ids(pools.human, previous_ids),
        last_earlier=_rows_with_ids(pools.earlier, previous_ids),
    )
    return draw_mix(settings, mix_pools, np.random.default_rng(seed))


def _rows_with_ids(table: pa.Table, ids: pa.Array) -> NDArray[np.int64]:
    return np.flatnonzero(pc.is_in(table["id"], ids).to_numpy())


def _strata(settings: MixSettings, pools: _RecordPools, curated: CuratedCandidates) -> Strata | None:
    """Return the stratum of each human record and of each newest survivor, if `mix.stratify_by` needs them."""
    human, newest = pools.human, pools.newest
    if settings.stratify_by == "attributes":
        candidates = read_table(curated.candidates.folder, ["id", "attributes"])
        cell_of = {row["id"]: repr(row["attributes"]) for row in candidates.to_pylist()}
        # Human records have no attributes. With each cell once in their place, every cell gets the same share.
        newest_cells = np.array([cell_of[record] for record in newest["id"].to_pylist()])
        return Strata(np.unique(list(cell_of.values())), newest_cells)
    if settings.stratify_by == "source":
        return Strata(human["source"].to_numpy(), newest["source"].to_numpy())
    if settings.stratify_by == "rarity":
        human_texts = human["text"].to_pylist()
        counts = Counter(word for text in human_texts for word in words(text))
        newest_bins = rarest_word_bin(newest["text"].to_pylist(), counts)
        return Strata(rarest_word_bin(human_texts, counts), newest_bins)
    return None
