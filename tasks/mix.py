"""Survivors and reserve to the next corpus, exact to the record, each in it once and with its texts."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.mixing import Mix, MixSettings, Strata, draw_mix
from curation.selection.sampling import rarity
from curation.text import words
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import seed_of
from storage.artifacts.schemas import CORPUS, HUMAN, SYNTHETIC
from storage.artifacts.survivors import read_survivors, without_dropped
from storage.runs.run import Attempt
from tasks.orchestration.prefect import verb
from tasks.orchestration.progress import stage

_COLUMNS = ["id", "text", "origin", "born", "source", "digest"]


@verb
def mix(
    attempt: Attempt,
    reserve: Artifact,
    pool: Sequence[tuple[Artifact, Artifact]],
    settings: MixSettings,
    seed: int,
    kept_out: Artifact | None = None,
    last: Artifact | None = None,
) -> Artifact:
    """Publish the corpus; `pool` holds candidates and decisions of every generation so far, oldest first; `last` is the last corpus.

    Without any, the corpus is the reserve alone, which is what generation 0 learns from. Records that `kept_out`
    names are in neither.

    Raises:
        ValueError: the policy asks for more records than there are, or curation left nothing to learn from.
    """
    identity = {"mix": settings.model_dump(mode="json"), "seed": seed} if pool else {"mix": "the reserve alone"}
    parents = {f"decisions_{place}": decided for place, (_, decided) in enumerate(pool)}
    parents |= {"kept_out": kept_out} if kept_out else {}
    parents |= {"last": last} if pool and last and settings.keeps_last else {}
    corpus = attempt.artifact("corpus", identity, reserve=reserve, **parents)
    if corpus.finished():
        return corpus
    with corpus.draft() as draft, stage(attempt, "mix"):
        human = read_table(reserve.folder, _COLUMNS)
        dice = seed_of(seed, "mix", attempt.generation, attempt.number)
        table, drawn = _drawn(human, pool, settings.at(attempt.generation), dice, kept_out, parents.get("last"))
        if not table.num_rows:
            raise ValueError(
                f"{attempt}: curation left no record to learn from; loosen [curate], or choose a policy with human records"
            )
        # Generation 0 has one origin: to weigh it against another has no meaning.
        of_origin = {HUMAN: settings.human_weight, SYNTHETIC: settings.synthetic_weight} if pool else {HUMAN: 1.0}
        weights = [of_origin[origin] for origin in table["origin"].to_pylist()]
        draft.write_part(table.append_column("weight", pa.array(weights, pa.float64())).cast(CORPUS))
        draft.facts = {
            "corpus": table.num_rows,
            "human": len(drawn.human),
            "human_fraction": drawn.human_fraction,
            "snapshot": int(reserve.folder.parent.name.split("=")[1]),
        }
    return corpus


def _drawn(
    human: pa.Table,
    pool: Sequence[tuple[Artifact, Artifact]],
    settings: MixSettings,
    seed: int,
    kept_out: Artifact | None,
    last: Artifact | None,
) -> tuple[pa.Table, Mix]:
    survivors = [read_survivors(made.folder, decided.folder).select(_COLUMNS) for made, decided in pool]
    if kept_out:
        human, *survivors = [without_dropped(table, kept_out.folder) for table in (human, *survivors)]
    empty = human.schema.empty_table()
    newest = survivors[-1] if survivors else empty
    earlier = pa.concat_tables(survivors[:-1]) if survivors[1:] else empty
    chosen = settings if pool else MixSettings(policy="anchor")
    counts, sources = (human.num_rows, newest.num_rows, earlier.num_rows), human["source"].to_pylist()
    ids = read_table(last.folder, ["id"])["id"].combine_chunks() if last else pa.array([], pa.string())
    held = (_rows(human, ids), _rows(earlier, ids))
    drawn = draw_mix(chosen, *counts, seed, sources, _strata(chosen, human, newest, pool), held)
    return pa.concat_tables([human.take(drawn.human), earlier.take(drawn.earlier), newest.take(drawn.newest)]), drawn


def _rows(table: pa.Table, ids: pa.Array) -> NDArray[np.int64]:
    """Rows of the records with these ids."""
    return np.flatnonzero(pc.is_in(table["id"], ids).to_numpy())


def _strata(
    settings: MixSettings, human: pa.Table, newest: pa.Table, pool: Sequence[tuple[Artifact, Artifact]]
) -> Strata | None:
    if settings.strata == "attributes":
        made = read_table(pool[-1][0].folder, ["id", "attributes"])
        cell = {row["id"]: repr(row["attributes"]) for row in made.to_pylist()}
        # Every cell once: each has the same share.
        return np.unique(list(cell.values())), np.array([cell[one] for one in newest["id"].to_pylist()])
    if settings.strata == "source":
        return human["source"].to_numpy(), newest["source"].to_numpy()
    if settings.strata == "rarity":
        texts = human["text"].to_pylist()
        counts = Counter(word for text in texts for word in words(text))
        return rarity(texts, counts), rarity(newest["text"].to_pylist(), counts)
    return None
