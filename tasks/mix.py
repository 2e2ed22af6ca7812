"""Survivors and reserve to the next corpus, exact to the record, each in it once and with its texts."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.mixing import MixIndices, MixPools, MixSettings, Strata, draw_mix
from curation.selection.sampling import rarest_word_bin
from curation.text import words
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.schemas import CORPUS, HUMAN, SYNTHETIC
from storage.artifacts.survivors import read_survivors, without_dropped
from storage.runs.run import Attempt
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import progress

_COLUMNS = ["id", "text", "origin", "source_generation", "source", "text_hash"]


@task
def mix(
    attempt: Attempt,
    human_train: Artifact,
    history: Sequence[tuple[Artifact, Artifact]],
    settings: MixSettings,
    seed: int,
    excluded: Artifact | None = None,
    last_corpus: Artifact | None = None,
) -> Artifact:
    """Publish the corpus; `pool` holds candidates and decisions of every generation so far, oldest first; `last` is the last corpus.

    Without any, the corpus is the reserve alone, which is what generation 0 learns from. Records that `excluded_records`
    names are in neither.

    Raises:
        HeirloomError: the policy asks for more records than there are, or curation left nothing to learn from.
    """
    identity = {"mix": settings.model_dump(mode="json"), "seed": seed} if history else {"mix": "the reserve alone"}
    parents = {f"decisions_{place}": decided for place, (_, decided) in enumerate(history)}
    parents |= {"excluded_records": excluded} if excluded else {}
    parents |= {"last": last_corpus} if history and last_corpus and settings.reuses_last_corpus else {}
    corpus = attempt.artifact("corpus", identity, human_train=human_train, **parents)
    if corpus.exists():
        return corpus
    with corpus.draft() as draft, progress(attempt, "mix"):
        human = read_table(human_train.folder, _COLUMNS)
        dice = derive_seed(seed, "mix", attempt.generation, attempt.number)
        table, drawn = _drawn(
            human, history, settings.for_generation(attempt.generation), dice, excluded, parents.get("last")
        )
        if not table.num_rows:
            raise HeirloomError(
                f"{attempt}: curation left no record to learn from; loosen [curate], or choose a policy with human records"
            )
        # Generation 0 has one origin: to weigh it against another has no meaning.
        of_origin = {HUMAN: settings.human_repeats, SYNTHETIC: settings.synthetic_repeats} if history else {HUMAN: 1.0}
        weights = [of_origin[origin] for origin in table["origin"].to_pylist()]
        draft.write_part(table.append_column("weight", pa.array(weights, pa.float64())).cast(CORPUS))
        draft.facts = {
            "corpus": table.num_rows,
            "human": len(drawn.human),
            "human_fraction": drawn.human_fraction,
            "snapshot": int(human_train.folder.parent.name.split("=")[1]),
        }
    return corpus


def _drawn(
    human: pa.Table,
    pool: Sequence[tuple[Artifact, Artifact]],
    settings: MixSettings,
    seed: int,
    excluded_records: Artifact | None,
    last: Artifact | None,
) -> tuple[pa.Table, MixIndices]:
    survivors = [read_survivors(made.folder, decided.folder).select(_COLUMNS) for made, decided in pool]
    if excluded_records:
        human, *survivors = [without_dropped(table, excluded_records.folder) for table in (human, *survivors)]
    empty = human.schema.empty_table()
    newest = survivors[-1] if survivors else empty
    earlier = pa.concat_tables(survivors[:-1]) if survivors[1:] else empty
    chosen = settings if pool else MixSettings(policy="anchor")
    ids = read_table(last.folder, ["id"])["id"].combine_chunks() if last else pa.array([], pa.string())
    pools = MixPools(
        num_human=human.num_rows,
        num_newest=newest.num_rows,
        num_earlier=earlier.num_rows,
        human_sources=human["source"].to_pylist(),
        strata=_strata(chosen, human, newest, pool),
        last_human=_rows(human, ids),
        last_earlier=_rows(earlier, ids),
    )
    drawn = draw_mix(chosen, pools, np.random.default_rng(seed))
    return pa.concat_tables([human.take(drawn.human), earlier.take(drawn.earlier), newest.take(drawn.newest)]), drawn


def _rows(table: pa.Table, ids: pa.Array) -> NDArray[np.int64]:
    """Rows of the records with these ids."""
    return np.flatnonzero(pc.is_in(table["id"], ids).to_numpy())


def _strata(
    settings: MixSettings, human: pa.Table, newest: pa.Table, pool: Sequence[tuple[Artifact, Artifact]]
) -> Strata | None:
    if settings.stratify_by == "attributes":
        made = read_table(pool[-1][0].folder, ["id", "attributes"])
        cell = {row["id"]: repr(row["attributes"]) for row in made.to_pylist()}
        # Every cell once: each has the same share.
        return Strata(np.unique(list(cell.values())), np.array([cell[one] for one in newest["id"].to_pylist()]))
    if settings.stratify_by == "source":
        return Strata(human["source"].to_numpy(), newest["source"].to_numpy())
    if settings.stratify_by == "rarity":
        texts = human["text"].to_pylist()
        counts = Counter(word for text in texts for word in words(text))
        return Strata(rarest_word_bin(texts, counts), rarest_word_bin(newest["text"].to_pylist(), counts))
    return None
