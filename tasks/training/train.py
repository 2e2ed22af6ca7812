"""Corpus to model, from where the recipe starts. Generation 0's model is made once for all arms that would make the same one."""

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, Artifact, load_artifact, read_manifest, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.model_files import ensure_loadable
from storage.artifacts.schemas import TRAINING
from storage.files import file_info
from storage.runs.run import Attempt
from tasks.backends import Training, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import logger, progress
from tasks.training.datasets import build_preference_pairs, dpo_dataset, eval_dataset, lm_dataset, sft_dataset

_same_model: dict[str, threading.Lock] = defaultdict(threading.Lock)
_SHAPE = {
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "context_length",
    "vocab_size",
    "batch_size",
    "precision",
}
"""What a base that is pre-trained from the reserve has of the recipe; the rest is as small models learn best."""


@task
def train(
    attempt: Attempt,
    corpus: Artifact,
    heldout: Artifact,
    gen0_model: Artifact | None,
    settings: Training,
    seed: int,
    backends: Backends,
    previous: Artifact | None = None,
    human_train: Artifact | None = None,
    history: Sequence[tuple[Artifact, Artifact]] = (),
) -> Artifact:
    """Publish the model.

    `gen0_model` is generation 0's, whose vocabulary every later model keeps; `previous` the last one's. `reserve` and
    `pool`, candidates and decisions of every generation so far, say what the records of the corpus answer.

    Raises:
        HeirloomError: nothing or too little to learn from, no model to start from, or a training that came to nothing.
    """
    settings = settings if gen0_model else _of_human_text_alone(settings)
    identity: dict[str, Any] = {"train": settings.model_dump(mode="json"), "seed": seed}
    parents = {"corpus": corpus} | ({"gen0_model": gen0_model} if gen0_model else {})
    initial_weights: Path | str | None = None
    if isinstance(settings, TransformerTraining):
        initial_weights, above, named = _initial_weights(
            attempt, corpus, gen0_model, previous, settings, seed, backends
        )
        parents |= above
        identity |= named
        if settings.load_best_model_at_end:
            parents["human_heldout"] = heldout
        if settings.objective == "dpo":
            parents["pairs"] = build_preference_pairs(attempt, corpus, _require(human_train), history, settings)
    model = attempt.artifact("model", identity, **parents)
    with _same_model[model.fingerprint]:
        if model.exists():
            return model
        if twin := _find_cached_model(attempt, model):
            model.copy_from(twin.folder)
            return model
        dataset = _dataset(settings, corpus, human_train, history, parents.get("pairs"))
        _run_training(
            attempt,
            model,
            dataset,
            heldout,
            gen0_model,
            initial_weights,
            settings,
            seed,
            backends,
            _license_facts(corpus, human_train),
        )
    return model


def _initial_weights(
    attempt: Attempt,
    corpus: Artifact,
    gen0_model: Artifact | None,
    previous: Artifact | None,
    settings: TransformerTraining,
    seed: int,
    backends: Backends,
) -> tuple[Path | str | None, dict[str, Artifact], dict[str, Any]]:
    """The model that a training starts from, the artifact that it is, and what it holds where it is none of ours."""
    if settings.init_from == "previous" and previous:
        return ensure_loadable(previous), {"previous": previous}, {}
    if settings.base_model:
        return settings.base_model, {}, {"base": _hash_base(settings.base_model)}
    if settings.init_from != "base":
        return None, {}, {}
    base = (
        load_artifact(gen0_model.folder.with_name("base"))
        if gen0_model
        else _pretrain_base(attempt, corpus, settings, seed, backends)
    )
    return base.ensure_local(), {"base": base}, {}


def _pretrain_base(
    attempt: Attempt, corpus: Artifact, settings: TransformerTraining, seed: int, backends: Backends
) -> Artifact:
    """The base that generation 0 makes from its human text, for itself and for all that come after."""
    shape = settings.model_dump(include=_SHAPE)
    plain = TransformerTraining.model_validate({**shape, "generation_0_max_steps": settings.base_max_steps})
    base = attempt.artifact("base", {"train": plain.model_dump(mode="json"), "seed": seed}, corpus=corpus)
    with _same_model[base.fingerprint]:
        if base.exists():
            return base
        if twin := _find_cached_model(attempt, base):
            base.copy_from(twin.folder)
        else:
            _run_training(attempt, base, lm_dataset(corpus), None, None, None, plain, seed, backends, {})
    return base


def _dataset(
    settings: Training,
    corpus: Artifact,
    reserve: Artifact | None,
    pool: Sequence[tuple[Artifact, Artifact]],
    pairs: Artifact | None,
) -> TrainingCorpus:
    if pairs:
        return dpo_dataset(pairs, corpus)
    if isinstance(settings, TransformerTraining) and settings.objective == "sft":
        return sft_dataset(corpus, _require(reserve), pool)
    return lm_dataset(corpus)


def _run_training(
    attempt: Attempt,
    model: Artifact,
    dataset: TrainingCorpus,
    heldout: Artifact | None,
    gen0_model: Artifact | None,
    initial_weights: Path | str | None,
    settings: Training,
    seed: int,
    backends: Backends,
    about: dict[str, Any],
) -> None:
    objective = settings.objective if isinstance(settings, TransformerTraining) else "lm"
    with model.draft() as draft, progress(attempt, "train" if model.name == "model" else model.name) as told:
        job = TrainJob(
            settings=settings,
            corpus=dataset,
            eval_texts=eval_dataset(heldout, objective) if heldout else [],
            gen0_model=gen0_model.ensure_local() if gen0_model else None,
            initial_weights=initial_weights,
            folder=draft.folder,
            seed=derive_seed(seed, "train", attempt.generation, attempt.number),
        )
        result = backends.trainer().train(job, told)
        curve = [point._asdict() for point in result.log]
        draft.write_part(pa.Table.from_pylist(curve, schema=TRAINING))
        draft.facts = {
            "tokens": result.tokens,
            "human_token_fraction": result.human_tokens / result.tokens,
            "steps": result.steps,
            "training_seconds": result.seconds,
            "resumed_from_step": result.resumed_from_step,
            **about,
        }
    if result.resumed_from_step:
        logger.info("%s · training went on from its checkpoint at step %d", attempt, result.resumed_from_step)


def _license_facts(corpus: Artifact, reserve: Artifact | None) -> dict[str, Any]:
    """Licenses of the human records that a model learns from."""
    if not reserve:
        return {}
    there = set(read_table(corpus.folder, ["id"])["id"].to_pylist())
    rows = read_table(reserve.folder, ["id", "license"]).to_pylist()
    return {"licenses": sorted({row["license"] for row in rows if row["license"] and row["id"] in there})}


def _of_human_text_alone(settings: Training) -> Training:
    """Settings of generation 0, where a schedule between human and synthetic text has no meaning, and nobody has answered."""
    if not isinstance(settings, TransformerTraining):
        return settings
    changed: dict[str, Any] = {"max_steps": settings.generation_0_max_steps, "human_ratio_schedule": "constant"}
    if settings.objective == "dpo" and settings.preference_source != "human":
        changed["objective"] = "lm"
    return settings.model_copy(update=changed)


def _hash_base(base: str) -> dict[str, str]:
    """What a base model in a folder holds; empty for one that is known by its name."""
    files = sorted(Path(base).glob("*.safetensors")) + sorted(Path(base).glob("*.json"))
    return {path.name: str(file_info(path)["sha256"]) for path in files}


def _require(reserve: Artifact | None) -> Artifact:
    if reserve is None:
        raise HeirloomError("responses and pairs are read from the reserve, which was not given")
    return reserve


def _find_cached_model(attempt: Attempt, model: Artifact) -> Artifact | None:
    """The same model in another run of this store, if one is finished."""
    if attempt.generation:
        return None
    for path in sorted(attempt.run.root.glob(f"runs/*/generation=0/attempt=*/{model.name}/{MANIFEST}")):
        if read_manifest(path.parent)["fingerprint"] == model.fingerprint:
            return replace(model, folder=path.parent)
    return None
