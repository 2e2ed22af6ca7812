"""Corpus to model. Generation 0's model is made once for all arms that would make the same one."""

import threading
from collections import defaultdict
from dataclasses import replace

import pyarrow as pa

from storage.artifact import MANIFEST, Artifact, read_manifest, read_table
from storage.records import HUMAN, TRAINING, seed_of
from storage.run import Attempt
from tasks.backends import Corpus, Training, TransformerTraining
from tasks.backends.pool import Backends
from tasks.coat import verb
from tasks.progress import stage

_same_model: dict[str, threading.Lock] = defaultdict(threading.Lock)


@verb
def train(
    attempt: Attempt,
    corpus: Artifact,
    heldout: Artifact,
    ancestor: Artifact | None,
    settings: Training,
    seed: int,
    backends: Backends,
) -> Artifact:
    """Publish the model; `ancestor` is generation 0's, whose vocabulary every later model keeps."""
    settings = settings if ancestor else _of_human_text_alone(settings)
    parents = {"corpus": corpus} | ({"ancestor": ancestor} if ancestor else {})
    if isinstance(settings, TransformerTraining) and settings.stop_early:
        parents["heldout"] = heldout
    model = attempt.artifact("model", {"train": settings.model_dump(mode="json"), "seed": seed}, **parents)
    with _same_model[model.fingerprint]:
        if model.finished():
            return model
        if twin := _twin(attempt, model):
            model.adopt(twin.folder)
            return model
        _learn(attempt, model, corpus, heldout, ancestor, settings, seed, backends)
    return model


def _learn(
    attempt: Attempt,
    model: Artifact,
    corpus: Artifact,
    heldout: Artifact,
    ancestor: Artifact | None,
    settings: Training,
    seed: int,
    backends: Backends,
) -> None:
    table = read_table(corpus.folder, ["text", "origin"])
    by_origin = [
        (text, origin == HUMAN) for text, origin in zip(*(column.to_pylist() for column in table), strict=True)
    ]
    texts = Corpus([text for text, human in by_origin if human], [text for text, human in by_origin if not human])
    with model.draft() as draft, stage(attempt, "train") as told:
        lesson = backends.trainer(settings).train(
            texts,
            read_table(heldout.folder, ["text"])["text"].to_pylist(),
            ancestor.whole() if ancestor else None,
            draft.folder,
            seed_of(seed, "train", attempt.generation, attempt.number),
            told,
        )
        curve = [dict(zip(TRAINING.names, point, strict=True)) for point in lesson.losses]
        draft.write_part(pa.Table.from_pylist(curve, schema=TRAINING))
        draft.facts = {
            "tokens": lesson.tokens,
            "human_token_fraction": lesson.human_tokens / lesson.tokens,
            "steps": lesson.steps,
            "training_seconds": lesson.seconds,
        }


def _of_human_text_alone(settings: Training) -> Training:
    """Settings of generation 0, where a schedule between human and synthetic text has no meaning."""
    if not isinstance(settings, TransformerTraining):
        return settings
    return settings.model_copy(update={"steps": settings.human_only_steps, "human_schedule": "constant"})


def _twin(attempt: Attempt, model: Artifact) -> Artifact | None:
    """The same model in another run of this store, if one is finished."""
    if attempt.generation:
        return None
    for path in sorted(attempt.run.root.glob(f"runs/*/generation=0/attempt=*/model/{MANIFEST}")):
        if read_manifest(path.parent)["fingerprint"] == model.fingerprint:
            return replace(model, folder=path.parent)
    return None
