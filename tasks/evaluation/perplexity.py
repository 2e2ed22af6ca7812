"""How surprised the models are, text by text: this generation's by what is held out, generation 0's by what was said.

Stored for each record, so that two generations can be compared in pairs and a histogram drawn of any quantile.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.metrics.perplexity import paired_loss_difference, perplexities, perplexity_quantiles
from curation.metrics.settings import TEMPERATURES
from storage.artifacts.artifact import Artifact, load_artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.model_files import ensure_loadable
from storage.artifacts.schemas import SCORES
from storage.runs.run import Attempt
from tasks.backends import Progress, Scorer
from tasks.context import StageContext
from tasks.evaluation.inputs import EvalInputs, metric_rows, sample_by_id, top_sources


def measure_perplexity(
    ctx: StageContext, eval_inputs: EvalInputs, eval_sets: dict[str, Artifact], report: Progress
) -> tuple[list[dict[str, object]], pa.Table]:
    """Metrics of how surprised the models are, and the scores they were made from."""
    settings, scorer = ctx.recipe.evaluate, ctx.backends.scorer(ctx.recipe.train)
    dice = derive_seed(ctx.recipe.seed, "bootstrap")
    rows = []
    heldout = read_table(eval_inputs.human.heldout.folder, ["id", "text", "source"])
    texts, ids, sources = (heldout[name].to_pylist() for name in ("text", "id", "source"))
    scored = _score(scorer, eval_inputs.model, texts, report)
    rows += metric_rows("model", perplexities(scored.nll, scored.tokens, scored.bytes_, dice))
    for source in top_sources(eval_inputs, settings):
        if (mine := np.array([one == source for one in sources])).any() and source not in eval_sets:
            some = scored.only(mine, texts)
            rows += metric_rows("model", perplexities(some.nll, some.tokens, some.bytes_, dice), source)
    for name, withheld in eval_sets.items():
        some = _score(scorer, eval_inputs.model, read_table(withheld.folder, ["text"])["text"].to_pylist(), report)
        rows += metric_rows("model", perplexities(some.nll, some.tokens, some.bytes_, dice), name)
    tables = [_as_rows("human_heldout", ids, ctx.attempt.generation, scored)]
    before = _heldout_nats(eval_inputs.gen0_attempt, ids) if eval_inputs.gen0_attempt else scored.nll[:, 0]
    if before is not None:
        rows += metric_rows("model", [paired_loss_difference(before, scored.nll[:, 0], scored.tokens, dice)])
    if eval_inputs.candidates and eval_inputs.gen0_attempt:
        said = sample_by_id(
            read_table(eval_inputs.candidates.folder, ["id", "text"]), settings.embedding_sample_records
        )
        first = load_artifact(eval_inputs.gen0_attempt.folder / "model")
        found = _score(scorer, first, said["text"].to_pylist(), report, only_as_is=True)
        rows += metric_rows("candidates", perplexity_quantiles(found.nll[:, 0], found.tokens, dice))
        tables.append(_as_rows("candidates", said["id"].to_pylist(), 0, found))
    return rows, pa.concat_tables(tables)


@dataclass(frozen=True)
class _Scored:
    """Nats of some texts, shape (texts, temperatures), their tokens, and their bytes all together."""

    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes_: int

    def only(self, rows: NDArray[np.bool_], texts: list[str]) -> "_Scored":
        """Of some of the texts."""
        kept = [text for text, row in zip(texts, rows, strict=True) if row]
        return _Scored(self.nll[rows], self.tokens[rows], _bytes(kept))


def _bytes(texts: list[str]) -> int:
    """UTF-8 bytes of some texts."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _score(scorer: Scorer, model: Artifact, texts: list[str], told: Progress, *, only_as_is: bool = False) -> _Scored:
    """Score texts under a model at every temperature, or as the model is."""
    temperatures = TEMPERATURES[:1] if only_as_is else TEMPERATURES
    scores = scorer.score(ensure_loadable(model), texts, temperatures, told) if texts else []
    nats = np.array([score.nll for score in scores], np.float64).reshape(len(scores), len(temperatures))
    return _Scored(nats, np.array([score.tokens for score in scores], np.int64), _bytes(texts))


def _as_rows(subject: str, ids: list[str], by: int, scored: _Scored) -> pa.Table:
    """A row a text, for the artifact `scores`."""
    columns = [[subject] * len(ids), ids, [by] * len(ids), scored.tokens, _numbers(scored.nll[:, 0])]
    return pa.table(columns, names=SCORES.names).cast(SCORES)


def _heldout_nats(first: Attempt, ids: list[str]) -> NDArray[np.float64] | None:
    """Nats of the held-out texts under generation 0's model, in the order of `ids`; None where they are not the same texts."""
    table = read_table(load_artifact(first.folder / "scores").folder)
    known = {row["id"]: row["nll"] for row in table.to_pylist() if row["subject"] == "human_heldout"}
    if not set(ids) <= set(known):
        return None
    return np.array([np.nan if known[one] is None else known[one] for one in ids])


def _numbers(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)  # what is no number is null
