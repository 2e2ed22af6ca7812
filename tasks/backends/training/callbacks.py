"""Trainer callbacks: weight averaging, timed checkpoints, and the training log.

Weight averaging is that of Izmailov et al. 2018 (arXiv:1803.05407), over every step of the last part of a training. It
lowers the loss as a decaying learning rate does, without a schedule.
"""

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.optim.swa_utils import get_swa_multi_avg_fn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from heirloom.errors import HeirloomError
from tasks.backends.types import LogPoint, Progress

_average = get_swa_multi_avg_fn()


class WeightAveragingCallback(TrainerCallback):
    """Replaces the weights at the end of a training by their mean over the last `share` of the steps.

    Each checkpoint contains the mean so far. Must come before CheckpointCallback, which marks a checkpoint as complete.
    """

    def __init__(self, share: float) -> None:
        self._share, self._mean, self._taken = share, list[torch.Tensor](), 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **_: object
    ) -> None:
        """Load the mean of the checkpoint if the training resumes. Refuse weights that are sharded by ZeRO stage 3."""
        if any(hasattr(weight, "ds_tensor") for weight in model.parameters()):
            raise HeirloomError(
                "train.weight_averaging_fraction needs the weights after each step, but ZeRO stage 3 of DeepSpeed "
                "shards them. Set stage 2 or FSDP in the site's accelerate configuration, or "
                "train.weight_averaging_fraction = 0."
            )
        if state.global_step and (mean_file := _file(args, state)).exists():
            self._mean, self._taken = torch.load(mean_file)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **_: object
    ) -> None:
        """Add the weights of this step to the mean, if it is one of the last."""
        if state.global_step <= min(round(state.max_steps * (1 - self._share)), state.max_steps - 1):
            return
        weights = [weight.detach() for weight in model.parameters() if weight.requires_grad]
        self._mean = self._mean or [weight.clone() for weight in weights]
        _average(self._mean, weights, self._taken)
        self._taken += 1

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write the mean so far to the checkpoint."""
        if self._taken:
            torch.save((self._mean, self._taken), _file(args, state))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **_: object
    ) -> None:
        """Replace the weights by their mean. A training that diverged may end before there is one."""
        if not self._mean:
            return
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        with torch.no_grad():
            for weight, mean in zip(weights, self._mean, strict=True):
                weight.copy_(mean)


def _file(args: TrainingArguments, state: TrainerState) -> Path:
    """Return the file of the mean. Each process of a distributed training writes the mean of its own shard."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / f"mean-{args.process_index}.pt"


CHECKPOINTS_FOLDER = "checkpoints"
_COMPLETE_MARK = "whole"
"""File in each checkpoint that was written completely."""


class CheckpointCallback(TrainerCallback):
    """Requests a checkpoint every `seconds`, and marks each one that is complete."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Request a checkpoint if one is due, except after the last step."""
        due = _agreed(time.monotonic() - self._last >= self._seconds, args.world_size)
        control.should_save = control.should_save or (due and state.global_step < state.max_steps)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Mark the checkpoint after all processes have written it. One without a mark was interrupted."""
        PartialState().wait_for_everyone()
        self._last = time.monotonic()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE_MARK).touch()


def _agreed(due: bool, processes: int) -> bool:
    """Return the decision of the main process: clocks differ, and all processes must write a checkpoint together."""
    decision = [due]
    if processes > 1:
        broadcast_object_list(decision)
    return decision[0]


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint of an interrupted training. The main process deletes incomplete ones."""
    with PartialState().main_process_first():
        checkpoints = sorted((folder / CHECKPOINTS_FOLDER).glob("checkpoint-*"), key=checkpoint_step)
        for checkpoint in checkpoints:
            if not (checkpoint / _COMPLETE_MARK).exists():
                shutil.rmtree(checkpoint)
        return next((checkpoint for checkpoint in reversed(checkpoints) if checkpoint.exists()), None)


def checkpoint_step(checkpoint: Path) -> int:
    """Return the number of steps after which a checkpoint was written."""
    return int(checkpoint.name.split("-")[1])


def remove_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a finished training."""
    shutil.rmtree(folder / CHECKPOINTS_FOLDER, ignore_errors=True)


class LoggingCallback(TrainerCallback):
    """Reports progress, adds the speed to each log entry, and stops at the first loss that is not finite."""

    def __init__(self, progress: Progress, tokens_per_step: float) -> None:
        self._progress, self._tokens_per_step = progress, tokens_per_step
        self._since, self._step = time.monotonic(), -1

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Start the measurement of speed, also when the training resumes."""
        self._since, self._step = time.monotonic(), state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Report progress. Log the training loss at each step that is evaluated, to pair it with the held-out loss."""
        control.should_log = control.should_log or control.should_evaluate
        if state.is_world_process_zero:
            self._progress(state.global_step, state.max_steps)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Add the speed to the log history, which is part of checkpoints."""
        entry = state.log_history[-1]
        if "loss" not in entry:
            return
        now = time.monotonic()
        entry["tokens_per_second"] = (state.global_step - self._step) * self._tokens_per_step / (now - self._since)
        self._since, self._step = now, state.global_step
        if not math.isfinite(entry["loss"]):
            control.should_training_stop = True


def training_log(history: Sequence[dict[str, float]]) -> tuple[LogPoint, ...]:
    """Convert the log history of the Trainer.

    Raises:
        HeirloomError: a loss is not finite.
    """
    heldout = {int(entry["step"]): entry["eval_loss"] for entry in history if "eval_loss" in entry}
    training = {int(entry["step"]): entry for entry in history if "loss" in entry}
    for step, entry in sorted(training.items()):
        if not math.isfinite(entry["loss"]):
            raise HeirloomError(
                f"Training diverged: the loss is {entry['loss']} at step {step}. Lower train.learning_rate, or set "
                "train.precision = 'float32'."
            )
    return tuple(
        LogPoint(step, entry["loss"], entry["learning_rate"], entry["tokens_per_second"], heldout.get(step))
        for step, entry in sorted(training.items())
    )
