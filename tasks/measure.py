"""What a model has kept: its loss on held-out human text, and what it says when asked; beside the human text.

The voice is a fixed number of texts that the model says for this purpose alone, sampled as the run samples,
with the continuation of one opening first. It is stored, and never trained on.
"""

import numpy as np
import pyarrow as pa

from curation.metrics import TEMPERATURES, Measured, MeasureSettings, first_words, perplexities, vocabulary
from storage.artifact import Artifact, read_table
from storage.records import METRICS, VOICE, seed_of
from storage.run import Attempt
from storage.weights import require_weights
from tasks.backends import Prompt, Sampling, Training
from tasks.backends.pool import Backends
from tasks.coat import verb
from tasks.progress import stage
from tasks.screen import Withheld, as_parents


@verb
def measure(
    attempt: Attempt,
    model: Artifact,
    corpus: Artifact,
    reserve: Artifact,
    heldout: Artifact,
    candidates: Artifact | None,
    settings: MeasureSettings,
    training: Training,
    sampling: Sampling,
    seed: int,
    backends: Backends,
    withheld: Withheld | None = None,
) -> Artifact:
    """Publish metrics of the model, its voice, the candidates, the corpus and the human text.

    Raises:
        ValueError: an evaluation set that the settings name is not among the withheld ones.
    """
    sets = _named_sets(attempt, settings, withheld or {})
    voice = _listen(attempt, model, settings, sampling, seed, backends)
    parents = {"model": model, "voice": voice, "corpus": corpus, "heldout": heldout, "reserve": reserve}
    parents |= ({"candidates": candidates} if candidates else {}) | as_parents(sets)
    identity = {**settings.model_dump(mode="json"), "seed": seed, "temperatures": list(TEMPERATURES)}
    metrics = attempt.artifact("metrics", identity, **parents)
    if metrics.finished():
        return metrics
    require_weights(model.folder)
    with metrics.draft() as draft, stage(attempt, "measure") as told:
        rows = []
        for source, measured_on in {"all": heldout, **sets}.items():
            texts = read_table(measured_on.folder, ["text"])["text"].to_pylist()
            scores = backends.scorer(training).score(model.whole(), texts, TEMPERATURES, told)
            nats = np.array([score.nats for score in scores])
            tokens = np.array([score.tokens for score in scores])
            bytes_ = sum(len(text.encode()) for text in texts)
            rows += _rows("model", perplexities(nats, tokens, bytes_, seed_of(seed, "bootstrap")), source)
        rows += _vocabularies(settings, reserve, {"model": voice, "candidates": candidates, "corpus": corpus}, heldout)
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


def _listen(
    attempt: Attempt, model: Artifact, settings: MeasureSettings, sampling: Sampling, seed: int, backends: Backends
) -> Artifact:
    identity = {
        "prompt": settings.prompt,
        "records": settings.voice_records,
        "sampling": sampling.own.model_dump(mode="json"),
        "seed": seed,
    }
    voice = attempt.artifact("voice", identity, model=model)
    if voice.finished():
        return voice
    require_weights(model.folder)
    with voice.draft() as draft, stage(attempt, "listen") as told:
        prompts = [Prompt(settings.prompt, seed_of(seed, "showcase"))]
        prompts += [
            Prompt("", seed_of(seed, "voice", attempt.generation, place)) for place in range(settings.voice_records)
        ]
        answers = list(backends.sampler(sampling.own).sample(model.whole(), prompts, told))
        rows = [
            {"prompt": prompt.text, "text": prompt.text + answer.text, "seed": prompt.seed}
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        draft.write_part(pa.Table.from_pylist(rows, schema=VOICE))
        draft.facts = {"voice_tokens": sum(answer.completion_tokens for answer in answers)}
    return voice


def _vocabularies(
    settings: MeasureSettings, reserve: Artifact, said: dict[str, Artifact | None], heldout: Artifact
) -> list[dict[str, object]]:
    human = _words(reserve, settings.sample_words)
    rows = _rows("human", vocabulary(human, _words(heldout, len(human))))
    for subject, artifact in said.items():
        if artifact:
            rows += _rows(subject, vocabulary(human, _words(artifact, len(human))))
    return rows


def _words(artifact: Artifact, most: int) -> list[str]:
    texts = read_table(artifact.folder, ["text"])["text"].to_pylist()
    order = np.random.default_rng(0).permutation(len(texts))
    return first_words((texts[place] for place in order), most)


def _rows(subject: str, measured: list[Measured], source: str = "all") -> list[dict[str, object]]:
    return [
        {
            "subject": subject,
            "metric": one.metric,
            "source": source,
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "sample_size": one.sample_size,
        }
        for one in measured
    ]
