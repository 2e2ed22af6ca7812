"""Where a killed training goes on: checkpoints in its draft, the newest that is whole, and when the next is due."""

import shutil
import time
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

FOLDER = "checkpoints"
_WHOLE = "whole"


class Keeping(TrainerCallback):
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
        found = sorted((folder / FOLDER).glob("checkpoint-*"), key=step_of)
        for cut in (one for one in found if not (one / _WHOLE).exists()):
            shutil.rmtree(cut)
        return next((one for one in reversed(found) if one.exists()), None)


def step_of(checkpoint: Path) -> int:
    """After how many steps a checkpoint was written."""
    return int(checkpoint.name.split("-")[1])


def clear(folder: Path) -> None:
    """Remove every checkpoint: the training is over."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
