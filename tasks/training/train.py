"""Corpus to model, from where the recipe starts. Generation 0's model is made once for all arms that would make the same one."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.artifacts.artifact import MANIFEST, Artifact, as_made, read_manifest, read_table
from storage.artifacts.files import describe_file
from storage.artifacts.ids import seed_of
from storage.artifacts.model_files import speakable
from storage.artifacts.schemas import TRAINING
from storage.runs.run import Attempt
from tasks.backends import Corpus, Training, TransformerTraining
from tasks.backends.registry import Backends
from tasks.orchestration.prefect import verb
from tasks.orchestration.progress import logger, stage
from tasks.training.datasets import heldout_of, pairs_of, preferences_of, responses_of, texts_of

_same_model: dict[str, threading.Lock] = defaultdict(threading.Lock)
_SHAPE = {"hidden", "layers", "heads", "context", "vocabulary", "batch", "precision"}
"""What a base that is pre-trained from the reserve has of the recipe; the rest is as small models learn best."""


@verb
def train(
    attempt: Attempt,
    corpus: Artifact,
    heldout: Artifact,
    ancestor: Artifact | None,
    settings: Training,
    seed: int,
    backends: Backends,
    previous: Artifact | None = None,
    reserve: Artifact | None = None,
    pool: Sequence[tuple[Artifact, Artifact]] = (),
) -> Artifact:
    """Publish the model.

    `ancestor` is generation 0's, whose vocabulary every later model keeps; `previous` the last one's. `reserve` and
    `pool`, candidates and decisions of every generation so far, say what the records of the corpus answer.

    Raises:
        ValueError: nothing or too little to learn from, no model to start from, or a training that came to nothing.
    """
    settings = settings if ancestor else _of_human_text_alone(settings)
    identity: dict[str, Any] = {"train": settings.model_dump(mode="json"), "seed": seed}
    parents = {"corpus": corpus} | ({"ancestor": ancestor} if ancestor else {})
    beginning: Path | str | None = None
    if isinstance(settings, TransformerTraining):
        beginning, above, named = _beginning(attempt, corpus, ancestor, previous, settings, seed, backends)
        parents |= above
        identity |= named
        if settings.stop_early:
            parents["heldout"] = heldout
        if settings.objective == "dpo":
            parents["pairs"] = pairs_of(attempt, corpus, _needed(reserve), pool, settings)
    model = attempt.artifact("model", identity, **parents)
    with _same_model[model.fingerprint]:
        if model.finished():
            return model
        if twin := _twin(attempt, model):
            model.adopt(twin.folder)
            return model
        material = _material(settings, corpus, reserve, pool, parents.get("pairs"))
        _learn(
            attempt, model, material, heldout, ancestor, beginning, settings, seed, backends, _about(corpus, reserve)
        )
    return model


def _beginning(
    attempt: Attempt,
    corpus: Artifact,
    ancestor: Artifact | None,
    previous: Artifact | None,
    settings: TransformerTraining,
    seed: int,
    backends: Backends,
) -> tuple[Path | str | None, dict[str, Artifact], dict[str, Any]]:
    """The model that a training starts from, the artifact that it is, and what it holds where it is none of ours."""
    if settings.start == "previous" and previous:
        return speakable(previous), {"previous": previous}, {}
    if settings.base:
        return settings.base, {}, {"base": _content(settings.base)}
    if settings.start != "base":
        return None, {}, {}
    base = (
        as_made(ancestor.folder.with_name("base"))
        if ancestor
        else _pretrained(attempt, corpus, settings, seed, backends)
    )
    return base.whole(), {"base": base}, {}


def _pretrained(
    attempt: Attempt, corpus: Artifact, settings: TransformerTraining, seed: int, backends: Backends
) -> Artifact:
    """The base that generation 0 makes from its human text, for itself and for all that come after."""
    shape = settings.model_dump(include=_SHAPE)
    plain = TransformerTraining.model_validate({**shape, "human_only_steps": settings.base_steps})
    base = attempt.artifact("base", {"train": plain.model_dump(mode="json"), "seed": seed}, corpus=corpus)
    with _same_model[base.fingerprint]:
        if base.finished():
            return base
        if twin := _twin(attempt, base):
            base.adopt(twin.folder)
        else:
            _learn(attempt, base, texts_of(corpus), None, None, None, plain, seed, backends, {})
    return base


def _material(
    settings: Training,
    corpus: Artifact,
    reserve: Artifact | None,
    pool: Sequence[tuple[Artifact, Artifact]],
    pairs: Artifact | None,
) -> Corpus:
    if pairs:
        return preferences_of(pairs, corpus)
    if isinstance(settings, TransformerTraining) and settings.objective == "sft":
        return responses_of(corpus, _needed(reserve), pool)
    return texts_of(corpus)


def _learn(
    attempt: Attempt,
    model: Artifact,
    material: Corpus,
    heldout: Artifact | None,
    ancestor: Artifact | None,
    beginning: Path | str | None,
    settings: Training,
    seed: int,
    backends: Backends,
    about: dict[str, Any],
) -> None:
    objective = settings.objective if isinstance(settings, TransformerTraining) else "text"
    with model.draft() as draft, stage(attempt, "train" if model.name == "model" else model.name) as told:
        lesson = backends.trainer(settings).train(
            material,
            heldout_of(heldout, objective) if heldout else [],
            ancestor.whole() if ancestor else None,
            draft.folder,
            seed_of(seed, "train", attempt.generation, attempt.number),
            told,
            beginning,
        )
        curve = [point._asdict() for point in lesson.log]
        draft.write_part(pa.Table.from_pylist(curve, schema=TRAINING))
        draft.facts = {
            "tokens": lesson.tokens,
            "human_token_fraction": lesson.human_tokens / lesson.tokens,
            "steps": lesson.steps,
            "training_seconds": lesson.seconds,
            "resumed_from_step": lesson.resumed_from,
            **about,
        }
    if lesson.resumed_from:
        logger.info("%s · training went on from its checkpoint at step %d", attempt, lesson.resumed_from)


def _about(corpus: Artifact, reserve: Artifact | None) -> dict[str, Any]:
    """Licences of the human records that a model learns from."""
    if not reserve:
        return {}
    there = set(read_table(corpus.folder, ["id"])["id"].to_pylist())
    rows = read_table(reserve.folder, ["id", "licence"]).to_pylist()
    return {"licences": sorted({row["licence"] for row in rows if row["licence"] and row["id"] in there})}


def _of_human_text_alone(settings: Training) -> Training:
    """Settings of generation 0, where a schedule between human and synthetic text has no meaning, and nobody has answered."""
    if not isinstance(settings, TransformerTraining):
        return settings
    changed: dict[str, Any] = {"steps": settings.human_only_steps, "human_schedule": "constant"}
    if settings.objective == "dpo" and settings.pairs != "human":
        changed["objective"] = "text"
    return settings.model_copy(update=changed)


def _content(base: str) -> dict[str, str]:
    """What a base model in a folder holds; empty for one that is known by its name."""
    files = sorted(Path(base).glob("*.safetensors")) + sorted(Path(base).glob("*.json"))
    return {path.name: str(describe_file(path)["sha256"]) for path in files}


def _needed(reserve: Artifact | None) -> Artifact:
    if reserve is None:
        raise ValueError("responses and pairs are read from the reserve, which was not given")
    return reserve


def _twin(attempt: Attempt, model: Artifact) -> Artifact | None:
    """The same model in another run of this store, if one is finished."""
    if attempt.generation:
        return None
    for path in sorted(attempt.run.root.glob(f"runs/*/generation=0/attempt=*/{model.name}/{MANIFEST}")):
        if read_manifest(path.parent)["fingerprint"] == model.fingerprint:
            return replace(model, folder=path.parent)
    return None
