"""Too little memory for a training, said in one sentence."""

import contextlib
import copy
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from heirloom.errors import HeirloomError
from tasks.backends.settings.resources import Resources
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
from tasks.backends.training.export import export_model
from tasks.backends.training.model import build_model
from tasks.backends.training.muon import has_bfloat16
from tasks.backends.training.optim import build_optimizer
from tasks.backends.types import Progress, Text, TrainingCorpus, TrainingResult

_SAID = ("out of memory", "can't allocate memory", "not enough memory")


@contextlib.contextmanager
def explain_oom(settings: TransformerTraining) -> Iterator[None]:
    """Turn what torch says of too little memory into what can be done about it.

    Raises:
        HeirloomError: the block ran out of memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            said in str(error) for said in _SAID
        ):
            raise
        found = next((line for line in str(error).splitlines() if line.strip()), "no memory is left")
        raise HeirloomError(
            f"training ran out of memory with train.batch_size {settings.batch_size} and train.context_length {settings.context_length}: lower them, "
            f"set train.gradient_checkpointing = true, or train an adapter (train.lora_rank); torch said: {found[:200]}"
        ) from error


_EVALUATIONS = 12


_PATIENCE = 3


_LIBRARY_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def build_trainer(
    settings: TransformerTraining,
    network: Any,  # noqa: ANN401
    tokenizer: PreTrainedTokenizerFast,
    plan: TrainPlan,
    heldout: PackedDataset | None,
    folder: Path,
    seed: int,
    callbacks: list[TrainerCallback],
) -> Trainer:
    """Who teaches the plan; checkpoints go below `folder`."""
    _refuse_what_shards_forbid(settings)
    arguments = _arguments(settings, network, plan.steps, folder, seed)
    more: list[TrainerCallback] = [EarlyStoppingCallback(_PATIENCE)] if settings.load_best_model_at_end else []
    common: dict[str, Any] = {
        "callbacks": [*callbacks, *more],
        "optimizers": (build_optimizer(network, settings), None),
    }
    if settings.objective == "dpo":
        return _of_preferences(settings, network, tokenizer, plan, arguments, common)
    padding = _PaddingCollator(tokenizer.pad_token_id)
    if settings.objective == "lm":
        collate = None if settings.packing else padding
        common |= {"train_dataset": plan.rows, "eval_dataset": heldout, "data_collator": collate}
        return Trainer(network, force_single_gpu(TrainingArguments(**arguments)), **common)
    from trl import SFTConfig, SFTTrainer

    asked = SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    common |= {"train_dataset": _listed(plan.rows), "eval_dataset": _listed(heldout) if heldout else None}
    return SFTTrainer(network, force_single_gpu(asked), processing_class=tokenizer, data_collator=padding, **common)


def _of_preferences(
    settings: TransformerTraining,
    network: Any,  # noqa: ANN401
    tokenizer: PreTrainedTokenizerFast,
    plan: TrainPlan,
    arguments: dict[str, Any],
    common: dict[str, Any],
) -> Trainer:
    """TRL's DPOTrainer, against the network as it is now."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Spelled(DPOTrainer):
        """Takes tokens as they are; TRL would spell the token that ends a text letter by letter."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:  # noqa: ANN401
            return dataset

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ANN401
            """Take up the adapter that learns, too: where the reference's lies beside it, that alone is taken up."""
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            if hasattr(self.model, "peft_config"):
                self.model.load_adapter(resume_from_checkpoint, "default", is_trainable=True)

    asked = DPOConfig(**arguments, beta=settings.dpo_beta, max_length=settings.context_length)
    reference = None if hasattr(network, "peft_config") else copy.deepcopy(network)
    rows = Dataset.from_list(plan.rows)
    return Spelled(
        network, reference, force_single_gpu(asked), train_dataset=rows, processing_class=tokenizer, **common
    )


def force_single_gpu(arguments: TrainingArguments) -> TrainingArguments:
    """The arguments of a process that learns on one card: on all that it sees, the library would take as many times the rows a step."""
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001  (the library sets it so itself, where a model is spread by layers)
    return arguments


def use_bf16(settings: TransformerTraining, width: int) -> bool:
    """Whether to multiply in bfloat16, for a network of this width."""
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    if torch.cuda.is_available():
        return has_bfloat16(torch.device("cuda"))
    # Below this width the casts cost more than the multiplications save, even on cores with BF16.
    return width >= 512 and has_bfloat16(torch.device("cpu"))


class _PaddingCollator:
    """Rows of a batch to one length; what is added is neither read nor learned."""

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        max_length = max(len(row["input_ids"]) for row in rows)
        short = [max_length - len(row["input_ids"]) for row in rows]

        def column(name: str, filler: int) -> torch.Tensor:
            return torch.tensor([[*row[name], *[filler] * gap] for row, gap in zip(rows, short, strict=True)])

        real = torch.tensor([[1] * (max_length - gap) + [0] * gap for gap in short])
        return {
            "input_ids": column("input_ids", self._pad),
            "labels": column("labels", IGNORE_INDEX),
            "attention_mask": real,
        }


def _listed(blocks: PackedDataset) -> Any:  # noqa: ANN401
    from datasets import Dataset

    return Dataset.from_list([blocks[place] for place in range(len(blocks))])


def _arguments(settings: TransformerTraining, network: Any, steps: int, folder: Path, seed: int) -> dict[str, Any]:  # noqa: ANN401
    interval = max(1, steps // _EVALUATIONS)
    stop_early: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": interval,
        "per_device_eval_batch_size": 32,
        "save_strategy": "steps",
        "save_steps": interval,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
    }
    return {
        "output_dir": str(folder / CHECKPOINTS_FOLDER),
        "max_steps": steps,
        "per_device_train_batch_size": settings.batch_size // _processes(settings),
        "train_sampling_strategy": "sequential",
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "adam_beta2": 0.95,
        "lr_scheduler_type": _LIBRARY_SCHEDULES[settings.lr_scheduler],
        "warmup_steps": max(1, int(steps * settings.warmup_ratio)) if settings.warmup_ratio else 0,
        "max_grad_norm": 1.0,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": seed,
        "data_seed": seed,
        "logging_steps": max(1, steps // 20),
        # Left on, it writes the mean of the steps before in place of a loss that is not a number.
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        # Older ones go before the newest is marked as whole, and one that is whole must be left.
        "save_total_limit": 2,
        "restore_callback_states_from_checkpoint": True,
        "bf16": use_bf16(settings, network.config.hidden_size),
        **(stop_early if settings.load_best_model_at_end else {"save_strategy": "no"}),
    }


def _refuse_what_shards_forbid(settings: TransformerTraining) -> None:
    """Raise where the site's configuration of accelerate takes a network apart that must be whole, or does it in a way not known here."""
    sharded, deepspeed = (os.environ.get(f"ACCELERATE_USE_{name}", "false") == "true" for name in ("FSDP", "DEEPSPEED"))
    if (sharded or deepspeed) and settings.optimizer == "muon":
        raise HeirloomError(
            "Muon steps on whole matrices, and this site's configuration of accelerate takes them apart: set train.optimizer = "
            "'adamw' and its learning_rate"
        )
    if sharded and os.environ.get("FSDP_VERSION", "1") == "1":
        raise HeirloomError(
            "this site's configuration of accelerate asks for FSDP's first version: write fsdp_version: 2 below fsdp_config"
        )
    if sharded and settings.load_best_model_at_end and os.environ.get("FSDP_STATE_DICT_TYPE") != "FULL_STATE_DICT":
        # With shards the library looks for the best checkpoint before it is written, and takes the one before.
        raise HeirloomError(
            "train.load_best_model_at_end goes back to its best checkpoint, which this site's configuration of accelerate keeps in shards: write "
            "fsdp_state_dict_type: FULL_STATE_DICT below fsdp_config, or leave load_best_model_at_end out"
        )


def _processes(settings: TransformerTraining) -> int:
    from accelerate import PartialState

    count = PartialState(cpu=not torch.cuda.is_available()).num_processes
    if settings.batch_size % count:
        raise HeirloomError(
            f"train.batch_size is {settings.batch_size}, and {count} processes share it; make it a multiple of them"
        )
    return count


def train_in_process(
    settings: TransformerTraining,
    resources: Resources,
    corpus: TrainingCorpus,
    heldout: Sequence[Text],
    gen0_model: Path | None,
    initial_weights: Path | str | None,
    folder: Path,
    seed: int,
    progress: Progress,
) -> TrainingResult:
    """`train` in this very process, which may be one of several."""
    started = time.monotonic()
    set_seed(seed)
    network, tokenizer = build_model(settings, initial_weights, gen0_model, corpus)
    plan = build_train_plan(settings, corpus, tokenizer, gen0_model is None, seed)
    evaluated = eval_blocks(settings, tokenizer, heldout)
    reporting = LoggingCallback(progress, plan.tokens_seen(plan.steps)[0] / plan.steps)
    averaging: list[TrainerCallback] = (
        [WeightAveragingCallback(settings.weight_averaging_fraction)] if settings.weight_averaging_fraction else []
    )
    callbacks = [*averaging, CheckpointCallback(resources.checkpoint_interval_s), reporting]
    trainer = build_trainer(settings, network, tokenizer, plan, evaluated, folder, seed, callbacks)
    checkpoint = newest_checkpoint(folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    log = training_log(trainer.state.log_history)
    export_model(trainer, tokenizer, folder, settings.save_adapter_only and initial_weights is not None, _first(corpus))
    if trainer.is_world_process_zero():
        remove_checkpoints(folder)
    tokens, human_tokens = plan.tokens_seen(trainer.state.global_step)
    return TrainingResult(
        tokens=tokens,
        human_tokens=human_tokens,
        steps=trainer.state.global_step,
        seconds=time.monotonic() - started,
        log=log,
        resumed_from_step=checkpoint_step(checkpoint) if checkpoint else 0,
    )


def _first(corpus: TrainingCorpus) -> str:
    """Something that the corpus says."""
    texts = [*corpus.human[:1], *corpus.synthetic[:1], *(pair.prompt + pair.chosen for pair in corpus.preferences[:1])]
    return texts[0] if isinstance(texts[0], str) else "".join(texts[0])
