"""Train the model of a generation on its corpus, from the initial weights that `[train]` chooses.

Generation 0 of several runs is trained once if their settings, seed and data are equal; the others copy the model.
"""

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from storage.artifacts.artifact import MANIFEST, Artifact, load_artifact, read_manifest, read_table
from storage.artifacts.model_files import ensure_loadable
from storage.artifacts.schemas import TRAINING
from storage.files import file_info
from storage.runs.run import Attempt
from tasks.backends import Training, TrainJob, TransformerTraining
from tasks.backends.models.pretrained import packaged_identity, resolve_model
from tasks.backends.types import ChatReport
from tasks.context import CuratedCandidates, GenerationHistory, HumanData, StageContext, StageRecipe
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import logger, progress
from tasks.training.datasets import build_preference_pairs, dpo_dataset, eval_dataset, lm_dataset, sft_dataset

_training_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
"""One lock for each model fingerprint: runs in parallel threads train equal models once."""

_BASE_FIELDS = {
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "context_length",
    "vocab_size",
    "batch_size",
    "precision",
}
"""Settings that a pretrained base takes from the recipe; the others keep their defaults, which suit small models."""


@task
def train(
    ctx: StageContext,
    human: HumanData,
    history: GenerationHistory,
    corpus: Artifact,
    curated: CuratedCandidates | None = None,
) -> Artifact:
    """Publish the model of this attempt.

    Args:
        ctx: context of the attempt.
        human: held-out records to evaluate on during training, and conversations of the training pool.
        history: the last model may be the initial weights; generation 0's model has the tokenizer of every later one.
        corpus: records to train on.
        curated: candidates of this attempt, whose prompts and scores `sft` and `dpo` need.

    Raises:
        HeirloomError: there is too little to train on, no model to start from, or the training diverged.
    """
    gen0_model = history.first.model if history.first else None
    settings = ctx.recipe.train if gen0_model else _generation_0_settings(ctx.recipe.train)
    identity: dict[str, object] = {"train": settings.model_dump(mode="json"), "seed": ctx.recipe.seed}
    parents = {"corpus": corpus}
    if gen0_model:
        parents["gen0_model"] = gen0_model
    initial = _InitialWeights()
    pairs: Artifact | None = None
    if isinstance(settings, TransformerTraining):
        initial = _initial_weights(ctx, history, corpus, settings)
        identity |= initial.identity
        parents |= initial.parents
        if settings.load_best_model_at_end:
            parents["human_heldout"] = human.heldout
        if settings.objective == "dpo":
            candidates = curated.candidates if curated else None
            pairs = parents["pairs"] = build_preference_pairs(ctx.attempt, corpus, human.train, candidates, settings)
    adds_chat_template = initial.path is None and _is_of_chat(ctx.recipe)
    if adds_chat_template and not gen0_model:
        identity["chat_template"] = "chatml"
    model = ctx.attempt.artifact("model", identity, **parents)
    with _training_locks[model.fingerprint]:
        if _exists_or_copied(ctx.attempt, model):
            return model
        objective = settings.objective if isinstance(settings, TransformerTraining) else "lm"
        if isinstance(settings, TransformerTraining) and not settings.max_steps:
            dataset = lm_dataset(corpus)
        elif pairs:
            dataset = dpo_dataset(pairs, corpus)
        elif objective == "sft":
            dataset = sft_dataset(corpus, (*history.synthetic, *([curated] if curated else [])))
        else:
            dataset = lm_dataset(corpus)
        job = TrainJob(
            settings=settings,
            corpus=dataset,
            eval_texts=eval_dataset(human.heldout, objective),
            gen0_model=gen0_model.ensure_local() if gen0_model else None,
            initial_weights=initial.path,
            folder=model.folder,
            seed=ctx.seed("train"),
            adds_chat_template=adds_chat_template,
        )
        _run(ctx, model, job, {"licenses": _licenses(corpus, human.train)})
    return model


def _is_of_chat(recipe: StageRecipe) -> bool:
    """Return whether models of a recipe are given conversations, so that one with random weights needs a template."""
    settings = recipe.train
    if not isinstance(settings, TransformerTraining):
        return False
    return settings.objective != "lm" or recipe.prompts.resolved_output_format == "chat"


@dataclass(frozen=True, kw_only=True)
class _InitialWeights:
    """Weights that a training starts from; without a path it starts from random weights."""

    path: Path | str | None = None
    """A model folder, or the name of a model on the Hugging Face Hub."""
    parents: dict[str, Artifact] = field(default_factory=dict)
    identity: dict[str, object] = field(default_factory=dict)
    """Hashes of a model that is no artifact."""


def _initial_weights(
    ctx: StageContext, history: GenerationHistory, corpus: Artifact, settings: TransformerTraining
) -> _InitialWeights:
    if settings.init_from == "previous" and history.last:
        previous = history.last.model
        return _InitialWeights(path=ensure_loadable(previous), parents={"previous": previous})
    if settings.base_model:
        return _named_base(settings.base_model)
    if settings.init_from != "base":
        return _InitialWeights()
    if history.first:
        base = load_artifact(history.first.model.folder.with_name("base"))
    else:
        base = _pretrain_base(ctx, corpus, settings)
    return _InitialWeights(path=base.ensure_local(), parents={"base": base})


def _named_base(name: str) -> _InitialWeights:
    """Return the base model that the recipe names, which is no artifact: it is identified by its files."""
    if identity := packaged_identity(name):
        return _InitialWeights(path=resolve_model(name), identity={"base": identity})
    return _InitialWeights(path=name, identity={"base": _hash_base(name)})


def _pretrain_base(ctx: StageContext, corpus: Artifact, settings: TransformerTraining) -> Artifact:
    """Publish the base model, pretrained on the human records of generation 0, that every generation starts from."""
    base_settings = TransformerTraining.model_validate(
        {**settings.model_dump(include=_BASE_FIELDS), "generation_0_max_steps": settings.base_max_steps}
    )
    identity: dict[str, object] = {"train": base_settings.model_dump(mode="json"), "seed": ctx.recipe.seed}
    adds_chat_template = _is_of_chat(ctx.recipe)
    if adds_chat_template:
        identity["chat_template"] = "chatml"
    base = ctx.attempt.artifact("base", identity, corpus=corpus)
    with _training_locks[base.fingerprint]:
        if not _exists_or_copied(ctx.attempt, base):
            job = TrainJob(
                settings=base_settings,
                corpus=lm_dataset(corpus),
                folder=base.folder,
                seed=ctx.seed("train"),
                adds_chat_template=adds_chat_template,
            )
            _run(ctx, base, job, {})
    return base


def _run(ctx: StageContext, model: Artifact, job: TrainJob[Training], facts: Mapping[str, object]) -> None:
    """Train a model in a draft of its folder, and publish it with its log and these further facts."""
    stage = "train" if model.name == "model" else model.name
    with model.draft() as draft, progress(ctx.attempt, stage) as report:
        result = ctx.backends.trainer().train(replace(job, folder=draft.folder), report)
        draft.write_part(pa.Table.from_pylist([point._asdict() for point in result.log], schema=TRAINING))
        draft.facts = {
            "tokens": result.tokens,
            "human_token_fraction": result.human_tokens / result.tokens if result.tokens else None,
            "steps": result.steps,
            "training_seconds": result.seconds,
            "resumed_from_step": result.resumed_from_step,
            **({"chat": asdict(result.chat)} if result.chat else {}),
            **facts,
        }
    if result.chat:
        _log_chat(ctx.attempt, result.chat)
    if result.resumed_from_step:
        logger.info("%s · training resumed from its checkpoint at step %d", ctx.attempt, result.resumed_from_step)


def _log_chat(attempt: Attempt, chat: ChatReport) -> None:
    """Log what a model does not see of its conversations."""
    count = chat.num_conversations
    if not chat.has_template:
        logger.warning("%s · %d conversations are plain text: the base model has no chat template", attempt, count)
    if chat.without_response:
        logger.warning(
            "%s · %d of %d conversations have no response to a message, and are not trained on",
            *(attempt, chat.without_response, count),
        )
    for name, unwritten in chat.unwritten_fields.items():
        logger.warning(
            "%s · the chat template leaves out %s of %d of %d conversations", *(attempt, name, unwritten, count)
        )


def _exists_or_copied(attempt: Attempt, model: Artifact) -> bool:
    """Return whether the model is published, after copying it from another run if one has it."""
    if model.exists():
        return True
    if cached := _find_cached_model(attempt, model):
        model.copy_from(cached.folder)
        return True
    return False


def _find_cached_model(attempt: Attempt, model: Artifact) -> Artifact | None:
    """Find the same model in generation 0 of another run of this store."""
    if attempt.generation:
        return None
    for path in sorted(attempt.run.root.glob(f"runs/*/generation=0/attempt=*/{model.name}/{MANIFEST}")):
        if read_manifest(path.parent)["fingerprint"] == model.fingerprint:
            return replace(model, folder=path.parent)
    return None


def _generation_0_settings(settings: Training) -> Training:
    """Adapt the settings to generation 0, which trains on human records alone and has no candidates."""
    if not isinstance(settings, TransformerTraining):
        return settings
    changed: dict[str, object] = {"max_steps": settings.generation_0_max_steps, "human_ratio_schedule": "constant"}
    if not settings.generation_0_max_steps:
        # The base model as it is: no objective, no length in epochs or tokens.
        changed |= {"num_epochs": None, "max_tokens": None, "objective": "lm", "load_best_model_at_end": False}
    if settings.objective == "dpo" and settings.preference_source != "human":
        changed["objective"] = "lm"
    return settings.model_copy(update=changed)


def _licenses(corpus: Artifact, human_train: Artifact) -> list[str]:
    """List the licenses of the human records in a corpus."""
    corpus_ids = set(read_table(corpus.folder, ["id"])["id"].to_pylist())
    rows = read_table(human_train.folder, ["id", "license"]).to_pylist()
    return sorted({row["license"] for row in rows if row["license"] and row["id"] in corpus_ids})


def _hash_base(base: str) -> dict[str, str]:
    """Hash the files of a base model in a local folder; empty for a model that is known by its name on the Hub."""
    files = sorted(Path(base).glob("*.safetensors")) + sorted(Path(base).glob("*.json"))
    return {path.name: str(file_info(path)["sha256"]) for path in files}
