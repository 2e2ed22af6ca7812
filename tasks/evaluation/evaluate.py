"""What a model has kept, and what it says: metrics of the model, the candidates and the corpus, beside the human text.

Scores, text by text, are an artifact of their own; so is the voice.
"""

import pyarrow as pa

from curation.metrics.settings import TEMPERATURES, MeasureSettings
from storage.artifacts.artifact import Artifact
from storage.artifacts.model_files import require_weights
from storage.artifacts.schemas import METRICS
from storage.runs.run import Attempt
from tasks.backends import Sampling, Training
from tasks.backends.registry import Backends
from tasks.curation.decontaminate import Withheld, as_parents
from tasks.evaluation.custom_metrics import digests_of
from tasks.evaluation.inputs import Made
from tasks.evaluation.perplexity import measure_losses
from tasks.evaluation.samples import listen
from tasks.evaluation.text_metrics import measure_copies, measure_own, measure_vectors, measure_words, said_by
from tasks.orchestration.prefect import verb
from tasks.orchestration.progress import stage


@verb
def measure(
    attempt: Attempt,
    made: Made,
    settings: MeasureSettings,
    training: Training,
    sampling: Sampling,
    seed: int,
    backends: Backends,
    withheld: Withheld | None = None,
) -> Artifact:
    """Publish metrics of the model, its voice, the candidates, the corpus and the human text.

    Raises:
        ValueError: an evaluation set that the settings name is not among the withheld ones, or an evaluation of the user's fails.
    """
    sets = _named_sets(attempt, settings, withheld or {})
    voice = listen(attempt, made.model, settings, sampling, seed, backends)
    identity = {**settings.model_dump(mode="json"), "seed": seed, "temperatures": list(TEMPERATURES)}
    identity |= {"own": digests_of(settings.own)} if settings.own else {}
    parents = {**made.parents, "voice": voice, **as_parents(sets)}
    metrics, scores = (attempt.artifact(name, identity, **parents) for name in ("metrics", "scores"))
    if metrics.finished():
        return metrics
    require_weights(made.model.folder)
    with metrics.draft() as draft, stage(attempt, "measure") as told:
        rows, scored = measure_losses(attempt, made, sets, settings, seed, backends.scorer(training), told)
        if not scores.finished():
            with scores.draft() as beside:
                beside.write_part(scored)
        texts = said_by(made, voice)
        rows += measure_words(made, voice, texts, settings, seed) + measure_vectors(texts, settings, seed)
        rows += measure_copies(made, settings) + measure_own(made, texts, settings)
        draft.write_part(pa.Table.from_pylist(rows, schema=METRICS))
    return metrics


def _named_sets(attempt: Attempt, settings: MeasureSettings, withheld: Withheld) -> dict[str, Artifact]:
    known = [name for name in withheld if name != "heldout"]
    if missing := [name for name in settings.evaluation if name not in known]:
        raise ValueError(
            f"measure.evaluation names {', '.join(missing)}, and {attempt} began with these evaluation sets: "
            f"{', '.join(known) or 'none'}; add a set with heirloom withhold before the run begins"
        )
    return {name: withheld[name] for name in settings.evaluation}
