"""The log of a training as it goes: progress to whoever waits, points for the artifact, and an end where the loss is lost."""

import math
import time
from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from tasks.backends import Point, Progress


class Reporting(TrainerCallback):
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


def points(history: Sequence[dict[str, float]]) -> tuple[Point, ...]:
    """The log of a training from the Trainer's history.

    Raises:
        ValueError: a loss is not a number.
    """
    heldout = {int(entry["step"]): entry["eval_loss"] for entry in history if "eval_loss" in entry}
    found = {int(entry["step"]): entry for entry in history if "loss" in entry}
    for step, entry in sorted(found.items()):
        if not math.isfinite(entry["loss"]):
            raise ValueError(
                f"training lost its way: the loss is not a number after {step} steps; lower train.learning_rate, "
                "or set train.precision = 'float32'"
            )
    return tuple(
        Point(step, entry["loss"], entry["learning_rate"], entry["tokens_per_second"], heldout.get(step))
        for step, entry in sorted(found.items())
    )
