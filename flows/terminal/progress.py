"""What a person sees while a run goes on: one line a run with the time left, or plain lines where nothing is drawn.

Listens to the log records of tasks/orchestration/progress.py; adds up where the time went.
"""

import logging
import time
from collections import defaultdict
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tasks.orchestration.progress import logger, progress_logger

_WEIGHTS = {"generate": 0.22, "curate": 0.13, "mix": 0.02, "train": 0.5, "sample_for_eval": 0.08, "evaluate": 0.05}
"""About how much of a generation each stage takes; only the time left is guessed from it."""


class ProgressPanel(logging.Handler):
    """Draws progress on a terminal, and prints one line a finished stage elsewhere."""

    def __init__(self, console: Console, generations: dict[str, int]) -> None:
        """`generations` says how far each run goes, so that time left can be told."""
        super().__init__(logging.DEBUG)
        self._console, self._generations = console, generations
        self._begun = time.monotonic()
        self._rows: dict[str, TaskID] = {}
        self._beginning: TaskID | None = None
        self.seconds: dict[str, float] = defaultdict(float)
        self._progress = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[stage]:<22}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            speed_estimate_period=120,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        progress_logger.setLevel(logging.DEBUG)
        progress_logger.propagate = False
        progress_logger.addHandler(self)
        logger.addHandler(self)
        logger.propagate = False
        self._progress.start()
        # Libraries and a server take seconds before there is anything to tell.
        self._beginning = self._progress.add_task("beginning", total=None, stage="")
        return self

    def __exit__(self, *_: object) -> None:
        self._get_going()
        self._progress.stop()
        progress_logger.removeHandler(self)
        logger.removeHandler(self)
        logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        """Draw one record."""
        said: dict[str, Any] | None = getattr(record, "progress", None)
        if said is None:
            if record.levelno >= logging.WARNING:
                self._console.print(f"[yellow]warning[/] {escape(record.getMessage())}")
            return
        if said.get("finished"):
            self.seconds[said["stage"]] += said["seconds"]
            if not self._console.is_terminal:
                self._console.print(f"[{time.monotonic() - self._begun:6.1f} s] {record.getMessage()}", markup=False)
        self._get_going()
        run, _, rest = said["subject"].partition(" · generation ")
        generation = int(rest.partition(",")[0]) if rest else 0
        total = float(self._generations.get(run, 0) + 1)
        row = self._rows.get(run)
        if row is None:
            row = self._rows[run] = self._progress.add_task(run, total=total, stage="")
        done = (
            generation + _before(said["stage"]) + _WEIGHTS.get(said["stage"], 1) * said["done"] / max(1, said["total"])
        )
        of = f" · generation {generation} of {self._generations[run]}" if run in self._generations else ""
        self._progress.update(row, description=run + of, completed=min(done, total), stage=_doing(said))

    def _get_going(self) -> None:
        if self._beginning is not None:
            self._progress.remove_task(self._beginning)
            self._beginning = None


def _before(stage: str) -> float:
    names = list(_WEIGHTS)
    return sum(_WEIGHTS[name] for name in names[: names.index(stage)]) if stage in names else 0


def _doing(said: dict[str, Any]) -> str:
    if said.get("text"):
        return f"{said['stage']} {said['text']}"
    return f"{said['stage']} {said['done']:,}/{said['total']:,}" if said["total"] > 1 else said["stage"]
