"""What a model has kept, and what it says: metrics of the model, the candidates and the corpus, beside the human text.

Scores, text by text, are an artifact of their own; so is the voice.
"""

import pyarrow as pa

from curation.metrics.settings import TEMPERATURES, EvalSettings
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact
from storage.artifacts.model_files import require_weights
from storage.artifacts.schemas import METRICS
from storage.runs.run import Attempt
from tasks.context import StageContext, eval_set_parents
from tasks.evaluation.custom_metrics import source_hashes
from tasks.evaluation.inputs import EvalInputs
from tasks.evaluation.perplexity import measure_perplexity
from tasks.evaluation.samples import sample_for_eval
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
    """Publish metrics of the model, its voice, the candidates, the corpus and the human text.

    Raises:
        HeirloomError: an evaluation set that the settings name is not among the withheld ones, or an evaluation of the user's fails.
    """
    attempt, settings, seed = ctx.attempt, ctx.recipe.evaluate, ctx.recipe.seed
    sets = _named_sets(attempt, settings, eval_inputs.human.eval_sets)
    voice = sample_for_eval(ctx, eval_inputs.model)
    identity = {**settings.model_dump(mode="json"), "seed": seed, "temperatures": list(TEMPERATURES)}
    identity |= {"own": source_hashes(settings.custom_metrics)} if settings.custom_metrics else {}
    parents = {**eval_inputs.parents, "eval_samples": voice, **eval_set_parents(sets)}
    metrics, scores = (attempt.artifact(name, identity, **parents) for name in ("metrics", "scores"))
    if metrics.exists():
        return metrics
    require_weights(eval_inputs.model.folder)
    with metrics.draft() as draft, progress(attempt, "evaluate") as told:
        rows, scored = measure_perplexity(ctx, eval_inputs, sets, told)
        if not scores.exists():
            with scores.draft() as beside:
                beside.write_part(scored)
        texts = texts_by_subject(eval_inputs, voice)
        rows += measure_words(eval_inputs, voice, texts, settings, seed) + measure_embeddings(texts, settings, seed)
        rows += measure_memorization(eval_inputs, settings) + measure_custom_metrics(eval_inputs, texts, settings)
        draft.write_part(pa.Table.from_pylist(rows, schema=METRICS))
    return metrics


def _named_sets(attempt: Attempt, settings: EvalSettings, known: dict[str, Artifact]) -> dict[str, Artifact]:
    if missing := [name for name in settings.eval_sets if name not in known]:
        raise HeirloomError(
            f"evaluate.eval_sets names {', '.join(missing)}, and {attempt} began with these evaluation sets: "
            f"{', '.join(known) or 'none'}; add a set with heirloom add-eval-set before the run begins"
        )
    return {name: known[name] for name in settings.eval_sets}
