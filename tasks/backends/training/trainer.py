"""Build the transformers or TRL trainer of a job, run it, and export the trained model.

`train_in_process` runs in the worker process, or in each process that `accelerate launch` starts.
"""

import contextlib
import copy
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from heirloom.errors import HeirloomError, one_line
from tasks.backends.models.chat_template import CHATML, report_chat
from tasks.backends.models.loading import has_bfloat16, stored_dtype
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.training.callbacks import (
    CHECKPOINTS_FOLDER,
    CheckpointCallback,
    LoggingCallback,
    WeightAveragingCallback,
    checkpoint_step,
    newest_checkpoint,
    remove_checkpoints,
    training_log,
)
from tasks.backends.training.data import IGNORE_INDEX, PackedDataset, TrainPlan, build_train_plan, eval_blocks
from tasks.backends.training.export import ExportFormat, export_model, export_network
from tasks.backends.training.model import build_model
from tasks.backends.training.optim import build_optimizer
from tasks.backends.types import Progress, TrainingCorpus, TrainingResult, TrainJob, plain_text

_OOM_PHRASES = ("out of memory", "can't allocate memory", "not enough memory")
"""Phrases by which torch's plain RuntimeErrors report too little memory."""
_NUM_EVALUATIONS = 12
"""Evaluations during one training, with `load_best_model_at_end`."""
_EARLY_STOPPING_PATIENCE = 3
_MAX_EVAL_TOKENS = 8192
"""Tokens in a batch of held-out text, on each device."""
_LR_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
"""`train.lr_scheduler`: the name that transformers has for it."""
_BF16_MIN_WIDTH = 512
"""Narrower models lose more time by casting on a CPU than they gain by faster products, even on cores with BF16."""


def train_in_process(job: TrainJob[TransformerTraining], progress: Progress) -> TrainingResult:
    """Train in this process, which may be one of several that `accelerate` has started.

    Raises:
        HeirloomError: the corpus is empty or too small, the initial model cannot be read or does not fit the settings,
            or the loss diverged.
    """
    started = time.monotonic()
    set_seed(job.seed)
    model, tokenizer = build_model(job.settings, job.initial_weights, job.gen0_model, job.corpus)
    if job.adds_chat_template and job.initial_weights is None and not tokenizer.chat_template:
        tokenizer.chat_template = CHATML
    job = _with_model_context(job, model)
    keep_adapter = job.settings.save_adapter_only and job.initial_weights is not None
    # A base in 16 bits has descendants in 16 bits, though they are trained in 32.
    dtype = stored_dtype(job.initial_weights) if job.initial_weights else torch.float32
    export = ExportFormat(keep_adapter=keep_adapter, dtype=dtype, probe=_probe_text(job.corpus))
    if not job.settings.max_steps:
        export_network(model, tokenizer, job.folder, export)
        return TrainingResult(tokens=0, human_tokens=0, steps=0, seconds=time.monotonic() - started, log=())
    plan = build_train_plan(job.settings, job.corpus, tokenizer, job.gen0_model is None, job.seed)
    callbacks: list[TrainerCallback] = [
        CheckpointCallback(job.resources.checkpoint_interval_s),
        LoggingCallback(progress, plan.tokens_seen(plan.steps)[0] / plan.steps),
    ]
    if job.settings.weight_averaging_fraction:
        # First in the list: CheckpointCallback marks a checkpoint as complete, and the mean belongs to it.
        callbacks.insert(0, WeightAveragingCallback(job.settings.weight_averaging_fraction))
    trainer = build_trainer(job, model, tokenizer, plan, callbacks)
    checkpoint = newest_checkpoint(job.folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    log = training_log(trainer.state.log_history)
    export_model(trainer, tokenizer, job.folder, export)
    if trainer.is_world_process_zero():
        remove_checkpoints(job.folder)
    tokens, human_tokens = plan.tokens_seen(trainer.state.global_step)
    return TrainingResult(
        tokens=tokens,
        human_tokens=human_tokens,
        steps=trainer.state.global_step,
        seconds=time.monotonic() - started,
        log=log,
        resumed_from_step=checkpoint_step(checkpoint) if checkpoint else 0,
        chat=report_chat(tokenizer, [*job.corpus.human, *job.corpus.synthetic], job.corpus.preferences),
    )


def build_trainer(
    job: TrainJob[TransformerTraining],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    plan: TrainPlan,
    callbacks: list[TrainerCallback],
) -> Trainer:
    """Build the trainer for the objective of a job. Checkpoints are written below `job.folder`.

    Raises:
        HeirloomError: the site's accelerate configuration does not fit the settings, or there is too little held-out
            text.
    """
    settings = job.settings
    eval_dataset = eval_blocks(settings, tokenizer, job.eval_texts)
    _require_shardable(settings)
    arguments = _training_arguments(job, plan.steps, model.config.hidden_size)
    if settings.load_best_model_at_end:
        callbacks = [*callbacks, EarlyStoppingCallback(_EARLY_STOPPING_PATIENCE)]
    common: dict[str, object] = {"callbacks": callbacks, "optimizers": (build_optimizer(model, settings), None)}
    if settings.objective == "dpo":
        from datasets import Dataset
        from trl import DPOConfig

        config = DPOConfig(**arguments, beta=settings.dpo_beta, max_length=settings.context_length)
        # With an adapter, TRL takes the model without it as the reference.
        reference = None if hasattr(model, "peft_config") else copy.deepcopy(model)
        return _tokenized_dpo_trainer_class()(
            model,
            reference,
            force_single_gpu(config),
            train_dataset=Dataset.from_list(plan.rows),
            processing_class=tokenizer,
            **common,
        )
    collator = _PaddingCollator(tokenizer.pad_token_id)
    if settings.objective == "lm":
        return Trainer(
            model,
            force_single_gpu(TrainingArguments(**arguments)),
            train_dataset=plan.rows,
            eval_dataset=eval_dataset,
            data_collator=None if settings.packing else collator,
            **common,
        )
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model,
        force_single_gpu(SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})),
        processing_class=tokenizer,
        train_dataset=_to_hf_dataset(plan.rows),
        eval_dataset=_to_hf_dataset(eval_dataset) if eval_dataset else None,
        data_collator=collator,
        **common,
    )


def _with_model_context(job: TrainJob[TransformerTraining], model: PreTrainedModel) -> TrainJob[TransformerTraining]:
    """Return the job with the context length of the model, if its settings leave it to the model."""
    if job.settings.context_length:
        return job
    longest = getattr(model.config, "max_position_embeddings", None)
    if not longest:
        raise HeirloomError(
            f"train.context_length is 0, but {type(model).__name__} has no maximum length. Set train.context_length."
        )
    return replace(job, settings=job.settings.model_copy(update={"context_length": longest}))


def force_single_gpu(arguments: TrainingArguments) -> TrainingArguments:
    """Restrict the Trainer of this process to one GPU.

    With several visible GPUs transformers wraps the model in DataParallel and multiplies the batch size by their
    number.
    """
    # The library itself sets the private field like this for models that are split by layers.
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001
    return arguments


def use_bf16(settings: TransformerTraining, width: int) -> bool:
    """Return whether a model of this hidden size is trained with bfloat16 autocast."""
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    if torch.cuda.is_available():
        return has_bfloat16(torch.device("cuda"))
    return width >= _BF16_MIN_WIDTH and has_bfloat16(torch.device("cpu"))


@contextlib.contextmanager
def explain_oom(settings: TransformerTraining) -> Iterator[None]:
    """Convert an out-of-memory error of the block into a message that names the settings to lower.

    Raises:
        HeirloomError: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise HeirloomError(
            f"Training ran out of memory with train.batch_size = {settings.batch_size} and train.context_length = "
            f"{settings.context_length}. Lower them, set train.gradient_checkpointing = true, or train an adapter "
            f"(train.lora_rank). Error from torch: {one_line(error)}"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(phrase in str(error) for phrase in _OOM_PHRASES)


def _tokenized_dpo_trainer_class() -> type[Trainer]:
    """Return TRL's DPOTrainer with two corrections; a function, since TRL takes seconds to import."""
    from trl import DPOTrainer

    class TokenizedDPOTrainer(DPOTrainer):
        """DPOTrainer for pairs that are tokenized already, which resumes the adapter of a checkpoint."""

        def _prepare_dataset(self, dataset: object, *_: object, **__: object) -> object:
            # TRL would tokenize again, and split the end token into characters.
            return dataset

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PreTrainedModel | None = None) -> None:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            # A checkpoint with a reference adapter has two adapters, of which the library loads the reference alone.
            if hasattr(self.model, "peft_config"):
                self.model.load_adapter(resume_from_checkpoint, "default", is_trainable=True)

    return TokenizedDPOTrainer


class _PaddingCollator:
    """Pad the rows of a batch to one length; padding is neither attended to nor part of the loss."""

    def __init__(self, pad_token_id: int) -> None:
        self._pad_token_id = pad_token_id

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        max_length = max(len(row["input_ids"]) for row in rows)
        num_padding = [max_length - len(row["input_ids"]) for row in rows]

        def pad_column(name: str, filler: int) -> torch.Tensor:
            return torch.tensor(
                [row[name] + [filler] * missing for row, missing in zip(rows, num_padding, strict=True)]
            )

        attention_mask = torch.tensor([[1] * (max_length - missing) + [0] * missing for missing in num_padding])
        return {
            "input_ids": pad_column("input_ids", self._pad_token_id),
            "labels": pad_column("labels", IGNORE_INDEX),
            "attention_mask": attention_mask,
        }


def _to_hf_dataset(blocks: PackedDataset) -> Any:  # noqa: ANN401  (datasets.Dataset, which is imported late)
    from datasets import Dataset

    return Dataset.from_list([blocks[index] for index in range(len(blocks))])


def _training_arguments(job: TrainJob[TransformerTraining], steps: int, width: int) -> dict[str, object]:
    settings = job.settings
    arguments: dict[str, object] = {
        "output_dir": str(job.folder / CHECKPOINTS_FOLDER),
        "max_steps": steps,
        "per_device_train_batch_size": settings.batch_size // _num_processes(settings),
        "train_sampling_strategy": "sequential",
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "adam_beta2": settings.adam_beta2,
        "lr_scheduler_type": _LR_SCHEDULERS[settings.lr_scheduler],
        "warmup_steps": max(1, int(steps * settings.warmup_ratio)) if settings.warmup_ratio else 0,
        "max_grad_norm": settings.max_grad_norm,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": settings.gradient_checkpointing,
        # With the reentrant form a frozen base passes no gradient on to its adapter.
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "seed": job.seed,
        "data_seed": job.seed,
        "logging_steps": max(1, steps // 20),
        # With the filter, the library logs the mean of the previous steps in place of a loss that is NaN.
        "logging_nan_inf_filter": False,
        "report_to": list(job.resources.report_to),
        # The run, the generation and the attempt, by the folders of the store.
        "run_name": "/".join(job.folder.parts[-4:-1]),
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        # Two, since an older checkpoint is deleted before the newest is marked as complete: one that is must remain.
        "save_total_limit": 2,
        "restore_callback_states_from_checkpoint": True,
        "bf16": use_bf16(settings, width),
        "save_strategy": "no",
    }
    if settings.load_best_model_at_end:
        interval = max(1, steps // _NUM_EVALUATIONS)
        arguments |= {
            "eval_strategy": "steps",
            "eval_steps": interval,
            "per_device_eval_batch_size": min(32, max(1, _MAX_EVAL_TOKENS // settings.context_length)),
            "save_strategy": "steps",
            "save_steps": interval,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return arguments


def _require_shardable(settings: TransformerTraining) -> None:
    """Raise if the accelerate configuration of this process shards the model as the settings do not allow."""
    fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"
    if (fsdp or deepspeed) and settings.optimizer == "muon":
        raise HeirloomError(
            "train.optimizer is 'muon', which needs whole weight matrices, but the site's accelerate configuration "
            "shards them. Set train.optimizer = 'adamw' and a learning rate for it."
        )
    if fsdp and os.environ.get("FSDP_VERSION", "1") == "1":
        raise HeirloomError(
            "The site's accelerate configuration uses FSDP version 1; version 2 is required. Write `fsdp_version: 2` "
            "below fsdp_config."
        )
    if fsdp and settings.load_best_model_at_end and os.environ.get("FSDP_STATE_DICT_TYPE") != "FULL_STATE_DICT":
        # With a sharded state dict the library looks for the best checkpoint before it is written, and loads the
        # previous.
        raise HeirloomError(
            "train.load_best_model_at_end needs whole checkpoints, but the site's accelerate configuration writes "
            "shards. Write `fsdp_state_dict_type: FULL_STATE_DICT` below fsdp_config, or unset "
            "train.load_best_model_at_end."
        )


def _num_processes(settings: TransformerTraining) -> int:
    from accelerate import PartialState

    count = PartialState(cpu=not torch.cuda.is_available()).num_processes
    if settings.batch_size % count:
        raise HeirloomError(
            f"train.batch_size is {settings.batch_size}, but {count} processes share each batch. Make it a multiple of "
            f"{count}."
        )
    return count


def _probe_text(corpus: TrainingCorpus) -> str:
    """Return one text of the corpus, whose log-likelihood is stored with the model."""
    texts = [*corpus.human[:1], *corpus.synthetic[:1], *(pair.prompt + pair.chosen for pair in corpus.preferences[:1])]
    return plain_text(texts[0]) if texts else ""
