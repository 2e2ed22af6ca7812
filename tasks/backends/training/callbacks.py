"""The mean of the weights over the end of a training, in the place of the last ones.

Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407), over every step of the last stretch: what a falling learning
rate does for the loss without the need to know when to begin.
"""

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.optim.swa_utils import get_swa_multi_avg_fn
from transformers import TrainerCallback

from heirloom.errors import HeirloomError
from tasks.backends.types import LogPoint, Progress

_average = get_swa_multi_avg_fn()


class WeightAveragingCallback(TrainerCallback):
    """Ends a training of `max_steps` with the mean over the last `share` of them; a checkpoint holds the mean so far.

    Must come before whatever marks a checkpoint as whole.
    """

    def __init__(self, share: float) -> None:
        self._share, self._mean, self._taken = share, list[torch.Tensor](), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ANN401, ARG002  (the library's signature)
        """Take up the mean that the checkpoint holds, where a training goes on; refuse weights that are not here between steps."""
        if any(hasattr(weight, "ds_tensor") for weight in model.parameters()):
            raise HeirloomError(
                "train.weight_averaging_fraction needs the weights after each step, and DeepSpeed's ZeRO stage 3 takes them away: let this site's "
                "configuration of accelerate say stage 2 or FSDP, or set train.weight_averaging_fraction = 0"
            )
        if state.global_step and (held := _file(args, state)).exists():
            self._mean, self._taken = torch.load(held)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Add the weights of this step, if it is one of the last."""
        if state.global_step <= min(round(state.max_steps * (1 - self._share)), state.max_steps - 1):
            return
        weights = [weight.detach() for weight in model.parameters() if weight.requires_grad]
        self._mean = self._mean or [weight.clone() for weight in weights]
        _average(self._mean, weights, self._taken)
        self._taken += 1

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Keep the mean so far beside the weights."""
        if self._taken:
            torch.save((self._mean, self._taken), _file(args, state))

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Put the mean in the place of the weights; a training that lost its way may end before there is one."""
        if not self._mean:
            return
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        with torch.no_grad():
            for weight, mean in zip(weights, self._mean, strict=True):
                weight.copy_(mean)


def _file(args: Any, state: Any) -> Path:  # noqa: ANN401
    """Every process that trains keeps the mean of its own part."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / f"mean-{args.process_index}.pt"


CHECKPOINTS_FOLDER = "checkpoints"


_WHOLE = "whole"


class CheckpointCallback(TrainerCallback):
    """Asks for a checkpoint each so many seconds, and marks each one that is whole."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401  (the library's signature)
        """Ask for a checkpoint where one is due; the end of a training needs none."""
        due = _agreed(time.monotonic() - self._last >= self._seconds, args.world_size)
        control.should_save = control.should_save or (due and state.global_step < state.max_steps)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Mark the checkpoint that all processes have written; one without a mark was cut off."""
        PartialState().wait_for_everyone()
        self._last = time.monotonic()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _WHOLE).touch()


def _agreed(due: bool, processes: int) -> bool:
    """What the first of all processes says: each has a clock of its own, and a checkpoint of shards is written by all or by none."""
    said = [due]
    if processes > 1:
        broadcast_object_list(said)
    return said[0]


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of an interrupted training; what was cut off is removed, by the first of all processes."""
    with PartialState().main_process_first():
        found = sorted((folder / CHECKPOINTS_FOLDER).glob("checkpoint-*"), key=checkpoint_step)
        for cut in (one for one in found if not (one / _WHOLE).exists()):
            shutil.rmtree(cut)
        return next((one for one in reversed(found) if one.exists()), None)


def checkpoint_step(checkpoint: Path) -> int:
    """After how many steps a checkpoint was written."""
    return int(checkpoint.name.split("-")[1])


def remove_checkpoints(folder: Path) -> None:
    """Remove every checkpoint: the training is over."""
    shutil.rmtree(folder / CHECKPOINTS_FOLDER, ignore_errors=True)


class LoggingCallback(TrainerCallback):
    """Tells each step, notes the speed with each loss, and stops at the first loss that is not a number."""

    def __init__(self, progress: Progress, tokens_per_step: float) -> None:
        self._progress, self._tokens_per_step = progress, tokens_per_step
        self._since, self._step = time.monotonic(), -1

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002  (the library's signature)
        """Speed is counted from here, or from where the training resumes."""
        self._since, self._step = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """A held-out loss is kept beside the training loss of its step, so that step needs one."""
        control.should_log = control.should_log or control.should_evaluate
        if state.is_world_process_zero:
            self._progress(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Note the speed in the history, which checkpoints keep."""
        entry = state.log_history[-1]
        if "loss" not in entry:
            return
        now = time.monotonic()
        entry["tokens_per_second"] = (state.global_step - self._step) * self._tokens_per_step / (now - self._since)
        self._since, self._step = now, state.global_step
        if not math.isfinite(entry["loss"]):
            control.should_training_stop = True


def training_log(history: Sequence[dict[str, float]]) -> tuple[LogPoint, ...]:
    """The log of a training from the Trainer's history.

    Raises:
        HeirloomError: a loss is not a number.
    """
    heldout = {int(entry["step"]): entry["eval_loss"] for entry in history if "eval_loss" in entry}
    found = {int(entry["step"]): entry for entry in history if "loss" in entry}
    for step, entry in sorted(found.items()):
        if not math.isfinite(entry["loss"]):
            raise HeirloomError(
                f"training lost its way: the loss is not a number after {step} steps; lower train.learning_rate, "
                "or set train.precision = 'float32'"
            )
    return tuple(
        LogPoint(step, entry["loss"], entry["learning_rate"], entry["tokens_per_second"], heldout.get(step))
        for step, entry in sorted(found.items())
    )
