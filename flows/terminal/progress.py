"""Progress of runs: one bar per run with the time left on a terminal, one line per finished stage elsewhere."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flows.config.recipe import Recipe
from flows.orchestration.local_server import configured_server_or_none, prefect_server
from flows.terminal.console import console as default_console
from tasks.orchestration.progress import ProgressReport, logger, progress_logger

_STAGE_SHARES = {
    "generate": 0.22,
    "curate": 0.13,
    "mix": 0.02,
    "train": 0.5,
    "sample_for_eval": 0.08,
    "evaluate": 0.05,
}
"""Approximate share of a generation's time of each stage, in order. Only the estimate of the time left uses it."""


@contextmanager
def flow_session(recipes: Sequence[Recipe] = ()) -> Iterator["ProgressPanel"]:
    """Show progress, and provide a Prefect server, for the flows that run inside the block.

    Import the flows inside the block: a temporary server starts in the meantime.
    """
    panel = ProgressPanel(default_console, {recipe.name: recipe.num_generations for recipe in recipes})
    with panel, prefect_server():
        yield panel


@contextmanager
def ingest_session() -> Iterator[None]:
    """Show progress for flows that ingest; they are recorded on a Prefect server only if one is configured."""
    with ProgressPanel(default_console, {}), configured_server_or_none():
        yield


class ProgressPanel(logging.Handler):
    """Shows the records of `tasks.orchestration.progress`, and adds up the seconds per stage."""

    def __init__(self, console: Console, num_generations: Mapping[str, int]) -> None:
        """Prepare the panel.

        Args:
            console: where it is drawn.
            num_generations: last generation of each run, by the run's name.
        """
        super().__init__(logging.DEBUG)
        self._console = console
        self._num_generations = num_generations
        self._started = time.monotonic()
        self._bars: dict[str, TaskID] = {}
        self._waiting_bar: TaskID | None = None
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
        # Imports and a server take seconds before the first stage reports.
        self._waiting_bar = self._progress.add_task("starting", total=None, stage="")
        return self

    def __exit__(self, *_: object) -> None:
        self._remove_waiting_bar()
        self._progress.stop()
        progress_logger.removeHandler(self)
        logger.removeHandler(self)
        logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record: progress as a bar or a line, a warning as a line."""
        report: ProgressReport | None = getattr(record, "progress", None)
        if report is None:
            if record.levelno >= logging.WARNING:
                self._console.print(f"[yellow]warning[/] {escape(record.getMessage())}")
            return
        if report.get("finished"):
            self.seconds[report["stage"]] += report["seconds"]
            if not self._console.is_terminal:
                elapsed = time.monotonic() - self._started
                self._console.print(f"[{elapsed:6.1f} s] {record.getMessage()}", markup=False)
        self._remove_waiting_bar()
        self._update_bar(report)

    def _update_bar(self, report: ProgressReport) -> None:
        run, _, rest = report["subject"].partition(" · generation ")
        generation = int(rest.partition(",")[0]) if rest else 0
        total = float(self._num_generations.get(run, 0) + 1)
        if run not in self._bars:
            self._bars[run] = self._progress.add_task(run, total=total, stage="")
        stage = report["stage"]
        done_of_stage = _STAGE_SHARES.get(stage, 1) * report["done"] / max(1, report["total"])
        done = generation + _share_before(stage) + done_of_stage
        description = run
        if run in self._num_generations:
            description = f"{run} · generation {generation} of {self._num_generations[run]}"
        self._progress.update(
            self._bars[run], description=description, completed=min(done, total), stage=_stage_text(report)
        )

    def _remove_waiting_bar(self) -> None:
        if self._waiting_bar is not None:
            self._progress.remove_task(self._waiting_bar)
            self._waiting_bar = None


def _share_before(stage: str) -> float:
    """Share of a generation's time that the stages before this one take."""
    names = list(_STAGE_SHARES)
    if stage not in names:
        return 0
    return sum(_STAGE_SHARES[name] for name in names[: names.index(stage)])


def _stage_text(report: ProgressReport) -> str:
    if report.get("text"):
        return f"{report['stage']} {report['text']}"
    return f"{report['stage']} {report['done']:,}/{report['total']:,}" if report["total"] > 1 else report["stage"]
