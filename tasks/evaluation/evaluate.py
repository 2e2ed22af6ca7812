"""Evaluate one generation: metrics of the model, the candidates and the corpus, compared with the human text.

The eval samples and the scores of single texts are separate artifacts.
"""

import pyarrow as pa

from curation.metrics.settings import TEMPERATURES, EvalSettings
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_manifest
from storage.artifacts.model_files import require_weights
from storage.artifacts.schemas import METRICS
from storage.runs.run import Attempt
from tasks.context import StageContext, eval_set_parents
from tasks.evaluation.check_metrics import answer_heldout, measure_checks
from tasks.evaluation.custom_metrics import source_hashes
from tasks.evaluation.inputs import EvalInputs
from tasks.evaluation.perplexity import measure_perplexity
from tasks.evaluation.samples import sample_for_eval
from tasks.evaluation.sizes import eval_sizes
from tasks.evaluation.text_metrics import (
    measure_custom_metrics,
    measure_embeddings,
    measure_memorization,
    measure_words,
    texts_by_subject,
)
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import progress


@task
def evaluate(ctx: StageContext, eval_inputs: EvalInputs) -> Artifact:
    """Publish the metrics of a generation, and the eval samples and scores that they are computed from.

    Raises:
        HeirloomError: `evaluate.eval_sets` names an eval set that the attempt did not begin with, or a custom metric
            fails.
    """
    attempt, settings, seed = ctx.attempt, ctx.recipe.evaluate, ctx.recipe.seed
    eval_sets = _select_eval_sets(attempt, settings, eval_inputs.human.eval_sets)
    sizes = eval_sizes(ctx.recipe, read_manifest(eval_inputs.human.train.folder)["rows"])
    samples = sample_for_eval(ctx, eval_inputs.model, sizes)
    heldout_results = answer_heldout(ctx, eval_inputs.human, eval_inputs.model)
    identity = {**settings.model_dump(mode="json"), "seed": seed, "temperatures": list(TEMPERATURES)}
    if settings.custom_metrics:
        identity["custom_metric_hashes"] = source_hashes(settings.custom_metrics)
    parents = {**eval_inputs.parents, "eval_samples": samples, **eval_set_parents(eval_sets)}
    if heldout_results:
        parents["heldout_check_results"] = heldout_results
    metrics = attempt.artifact("metrics", identity, **parents)
    scores = attempt.artifact("scores", identity, **parents)
    if metrics.exists():
        return metrics
    require_weights(eval_inputs.model.folder)
    with metrics.draft() as draft, progress(attempt, "evaluate") as report:
        perplexity = measure_perplexity(ctx, eval_inputs, eval_sets, sizes, report)
        if not scores.exists():
            with scores.draft() as scores_draft:
                scores_draft.write_part(perplexity.scores)
                scores_draft.facts = {"scoring_dtype": perplexity.dtype}
        texts = texts_by_subject(eval_inputs, samples)
        rows = [
            *perplexity.metrics,
            *measure_words(eval_inputs, samples, texts, settings, seed),
            *measure_embeddings(texts, settings, seed),
            *measure_memorization(eval_inputs, settings),
            *measure_checks(eval_inputs, heldout_results),
            *measure_custom_metrics(eval_inputs, texts, settings),
        ]
        draft.write_part(pa.Table.from_pylist(rows, schema=METRICS))
        draft.facts = {"scoring_dtype": perplexity.dtype}
    return metrics


def _select_eval_sets(attempt: Attempt, settings: EvalSettings, pinned: dict[str, Artifact]) -> dict[str, Artifact]:
    missing = [name for name in settings.eval_sets if name not in pinned]
    if missing:
        raise HeirloomError(
            f"`evaluate.eval_sets` names {', '.join(missing)}, but {attempt} began with these eval sets: "
            f"{', '.join(pinned) or 'none'}. Add an eval set with `heirloom add-eval-set` before the run begins."
        )
    return {name: pinned[name] for name in settings.eval_sets}
