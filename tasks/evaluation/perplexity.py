"""Score texts under models, and compute perplexity metrics.

Held-out texts and eval sets are scored under the generation's model, candidates under the generation-0 model. The
scores of single texts are stored, so that two generations can be compared in pairs, and any quantile or histogram
computed later.
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
from tasks.backends import Progress, Scorer, Text, TransformerTraining
from tasks.backends.types import record_text, scored_text
from tasks.context import StageContext
from tasks.evaluation.inputs import EvalInputs, MetricRow, metric_rows, sample_by_id, top_sources
from tasks.evaluation.sizes import EvalSizes

_TEXT_COLUMNS = ["text", "messages", "tools"]


@dataclass(frozen=True, kw_only=True)
class PerplexityResult:
    """Metrics, and the scores that they were computed from."""

    metrics: list[MetricRow]
    scores: pa.Table
    dtype: str
    """Data type in which the models were computed."""


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """Scores of some texts."""

    nll: NDArray[np.float64]
    """Negative log-likelihood in nats, shape (texts, temperatures)."""
    tokens: NDArray[np.int64]
    """Shape (texts,)."""
    num_bytes: int
    """UTF-8 bytes of all texts together."""
    dtype: str
    """Data type of the model; empty without texts."""

    def select(self, rows: NDArray[np.bool_], texts: list[Text]) -> "_Scores":
        """Return the scores of some of the texts."""
        selected = [text for text, is_selected in zip(texts, rows, strict=True) if is_selected]
        return _Scores(nll=self.nll[rows], tokens=self.tokens[rows], num_bytes=_count_bytes(selected), dtype=self.dtype)


def measure_perplexity(
    ctx: StageContext, eval_inputs: EvalInputs, eval_sets: dict[str, Artifact], sizes: EvalSizes, report: Progress
) -> PerplexityResult:
    """Score the held-out texts, the eval sets and a sample of the candidates, as many as the sizes say."""
    settings, scorer = ctx.recipe.evaluate, ctx.backends.scorer(ctx.recipe.train)
    bootstrap_seed = derive_seed(ctx.recipe.seed, "bootstrap")

    def perplexity_rows(scores: _Scores, source: str = "all") -> list[MetricRow]:
        return metric_rows("model", perplexities(scores.nll, scores.tokens, scores.num_bytes, bootstrap_seed), source)

    heldout = _limit(read_table(eval_inputs.human.heldout.folder, ["id", "source", *_TEXT_COLUMNS]), sizes)
    ids, texts = heldout["id"].to_pylist(), _texts(ctx, heldout)
    heldout_scores = _score(scorer, eval_inputs.model, texts, report)
    rows = perplexity_rows(heldout_scores)
    sources = np.array(heldout["source"].to_pylist(), object)
    for source in top_sources(eval_inputs, settings):
        has_source = sources == source
        # An eval set of the same name has the metrics of that name.
        if has_source.any() and source not in eval_sets:
            rows += perplexity_rows(heldout_scores.select(has_source, texts), source)
    for name, eval_set in eval_sets.items():
        eval_texts = _texts(ctx, _limit(read_table(eval_set.folder, ["id", *_TEXT_COLUMNS]), sizes))
        rows += perplexity_rows(_score(scorer, eval_inputs.model, eval_texts, report), name)
    tables = [_score_table("human_heldout", ids, ctx.attempt.generation, heldout_scores)]
    nll = heldout_scores.nll[:, 0]
    gen0_nll = _gen0_heldout_nll(eval_inputs.gen0_attempt, ids) if eval_inputs.gen0_attempt else nll
    if gen0_nll is not None:
        rows += metric_rows("model", [paired_loss_difference(gen0_nll, nll, heldout_scores.tokens, bootstrap_seed)])
    if eval_inputs.candidates and eval_inputs.gen0_attempt:
        candidates = sample_by_id(read_table(eval_inputs.candidates.folder, ["id", *_TEXT_COLUMNS]), sizes.candidates)
        gen0_model = load_artifact(eval_inputs.gen0_attempt.folder / "model")
        candidate_scores = _score(scorer, gen0_model, _texts(ctx, candidates), report, temperatures=TEMPERATURES[:1])
        quantiles = perplexity_quantiles(candidate_scores.nll[:, 0], candidate_scores.tokens, bootstrap_seed)
        rows += metric_rows("candidates", quantiles)
        tables.append(_score_table("candidates", candidates["id"].to_pylist(), 0, candidate_scores))
    return PerplexityResult(metrics=rows, scores=pa.concat_tables(tables), dtype=heldout_scores.dtype)


def _limit(texts: pa.Table, sizes: EvalSizes) -> pa.Table:
    """Return the texts to score: the same ones in every generation, since the choice depends on the ids alone."""
    return texts if sizes.heldout is None else sample_by_id(texts, sizes.heldout)


def _score(
    scorer: Scorer,
    model: Artifact,
    texts: list[Text],
    report: Progress,
    *,
    temperatures: tuple[float, ...] = TEMPERATURES,
) -> _Scores:
    """Score texts under a model at each temperature."""
    scores = scorer.score(ensure_loadable(model), texts, temperatures, report) if texts else []
    return _Scores(
        nll=np.array([score.nll for score in scores], np.float64).reshape(len(scores), len(temperatures)),
        tokens=np.array([score.tokens for score in scores], np.int64),
        num_bytes=_count_bytes(texts),
        dtype=scores[0].dtype if scores else "",
    )


def _texts(ctx: StageContext, records: pa.Table) -> list[Text]:
    """Return what of each record a model is scored on: its text, or of a conversation what it is trained on."""
    settings = ctx.recipe.train
    if not isinstance(settings, TransformerTraining):
        return list(records["text"].to_pylist())
    return [record_text(row, whole=settings.objective == "lm") for row in records.select(_TEXT_COLUMNS).to_pylist()]


def _count_bytes(texts: list[Text]) -> int:
    return sum(len(scored_text(text).encode("utf-8", "surrogatepass")) for text in texts)


def _score_table(subject: str, ids: list[str], model_generation: int, scores: _Scores) -> pa.Table:
    """Return rows of the artifact `scores`; the loss is that at temperature 1."""
    columns = {
        "subject": [subject] * len(ids),
        "id": ids,
        "model_generation": [model_generation] * len(ids),
        "tokens": scores.tokens,
        # `from_pandas` stores NaN as null.
        "nll": pa.array(scores.nll[:, 0], pa.float64(), from_pandas=True),
    }
    return pa.table(columns).select(SCORES.names).cast(SCORES)


def _gen0_heldout_nll(gen0_attempt: Attempt, ids: list[str]) -> NDArray[np.float64] | None:
    """Return the loss of the held-out texts under the generation-0 model, in the order of `ids`.

    None if generation 0 has not scored all of these texts.
    """
    table = read_table(load_artifact(gen0_attempt.folder / "scores").folder)
    nll_by_id = {row["id"]: row["nll"] for row in table.to_pylist() if row["subject"] == "human_heldout"}
    if not set(ids) <= set(nll_by_id):
        return None
    return np.array([np.nan if nll_by_id[record_id] is None else nll_by_id[record_id] for record_id in ids])
