"""Progress of runs: one bar per run with the time left on a terminal, one line per finished stage elsewhere."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from flows.config.recipe import Recipe
from flows.orchestration.local_server import configured_server_or_none, prefect_server
from flows.terminal.console import console as default_console
from tasks.orchestration.progress import ProgressReport, ShowcaseAnswer, logger, progress_logger

_STAGE_SHARES = {
    "generate": 0.22,
    "curate": 0.13,
    "mix": 0.02,
    "train": 0.5,
    "sample_for_eval": 0.08,
    "evaluate": 0.05,
}
"""Approximate share of a generation's time of each stage, in order. Only the estimate of the time left uses it."""
_LONG_STAGES = {"generate", "train"}
"""Stages that take long enough to estimate the others from."""
_LEAST_SHARE_DONE = 0.05
"""Share of a stage that is done in this session before its duration is estimated from it."""
_ANSWER_CHARS = 400
"""Characters of a showcase completion on the terminal. The report has all of it."""


@contextmanager
def flow_session(recipes: Sequence[Recipe] = (), *, shows_answers: bool = False) -> Iterator["ProgressPanel"]:
    """Show progress, and provide a Prefect server, for the flows that run inside the block.

    Import the flows inside the block: a temporary server starts in the meantime.

    Args:
        recipes: runs, whose progress is shown with the time left.
        shows_answers: whether each new model's completion of the showcase prompt is printed.
    """
    num_generations = {recipe.name: recipe.num_generations for recipe in recipes}
    panel = ProgressPanel(default_console, num_generations, shows_answers=shows_answers)
    with panel, prefect_server():
        yield panel


@contextmanager
def ingest_session() -> Iterator[None]:
    """Show progress for flows that ingest; they are recorded on a Prefect server only if one is configured."""
    with ProgressPanel(default_console, {}), configured_server_or_none():
        yield


class ProgressPanel(logging.Handler):
    """Shows the records of `tasks.orchestration.progress`, and adds up the seconds per stage."""

    def __init__(self, console: Console, num_generations: Mapping[str, int], *, shows_answers: bool = False) -> None:
        """Prepare the panel.

        Args:
            console: where it is drawn.
            num_generations: last generation of each run, by the run's name.
            shows_answers: whether completions of the showcase prompt are printed.
        """
        super().__init__(logging.DEBUG)
        self._console = console
        self._shows_answers = shows_answers
        self._clocks = {run: RunClock(last) for run, last in num_generations.items()}
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
            TextColumn("{task.fields[left]}"),
            console=console,
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
        self._waiting_bar = self._progress.add_task("starting", total=None, stage="", left="")
        return self

    def __exit__(self, *_: object) -> None:
        self._remove_waiting_bar()
        self._progress.stop()
        progress_logger.removeHandler(self)
        logger.removeHandler(self)
        logger.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record: progress as a bar or a line, a warning as a line."""
        if answer := getattr(record, "showcase", None):
            if self._shows_answers:
                self._print_answer(answer)
            return
        report: ProgressReport | None = getattr(record, "progress", None)
        if report is None:
            if record.levelno >= logging.WARNING:
                self._console.print(f"[yellow]warning[/] {escape(record.getMessage())}")
            return
        run, generation = _run_and_generation(report["subject"])
        clock = self._clocks.get(run)
        left = clock.update(generation, report) if clock else None
        if report.get("finished"):
            self.seconds[report["stage"]] += report["seconds"]
            if not self._console.is_terminal:
                elapsed = time.monotonic() - self._started
                suffix = f"; {format_left(left)} of {run}" if left else ""
                self._console.print(f"[{elapsed:6.1f} s] {record.getMessage()}{suffix}", markup=False, soft_wrap=True)
        self._remove_waiting_bar()
        self._update_bar(report, run, generation, format_left(left))

    def _print_answer(self, answer: ShowcaseAnswer) -> None:
        # Imported here because the templates take longer to import than most commands run.
        from tasks.reporting.templating import shorten

        text = shorten(answer["text"], _ANSWER_CHARS)
        self._console.print(f"[bold]{escape(answer['subject'])}[/] {escape(text)}")

    def _update_bar(self, report: ProgressReport, run: str, generation: int, left: str) -> None:
        total = float(self._num_generations.get(run, 0) + 1)
        if run not in self._bars:
            self._bars[run] = self._progress.add_task(run, total=total, stage="", left="")
        stage = report["stage"]
        done_of_stage = _STAGE_SHARES.get(stage, 1) * report["done"] / max(1, report["total"])
        done = generation + _share_before(stage) + done_of_stage
        description = run
        if run in self._num_generations:
            description = f"{run} · generation {generation} of {self._num_generations[run]}"
        self._progress.update(
            self._bars[run],
            description=description,
            completed=min(done, total),
            stage=_stage_text(report),
            left=left,
        )

    def _remove_waiting_bar(self) -> None:
        if self._waiting_bar is not None:
            self._progress.remove_task(self._waiting_bar)
            self._waiting_bar = None


class RunClock:
    """Estimates the time left of a run from the stages that it has finished in this session.

    A stage that has not been seen yet is estimated by its usual share of a generation. Stages that were finished before
    the session count for nothing, so a resumed run is estimated as well as a new one.

    Args:
        last_generation: Number of the last generation.
    """

    def __init__(self, last_generation: int) -> None:
        self._last_generation = last_generation
        self._seconds: dict[str, float] = {}
        self._stage: tuple[int, str] | None = None
        self._started = self._share_at_start = 0.0

    def update(self, generation: int, report: ProgressReport) -> float | None:
        """Take in a report, and return the seconds left; None as long as nothing is known."""
        stage = report["stage"]
        if stage not in _STAGE_SHARES:
            return None
        share, now = report["done"] / max(1, report["total"]), time.monotonic()
        if self._stage != (generation, stage):
            self._stage, self._started, self._share_at_start = (generation, stage), now, share
        if report.get("finished"):
            self._seconds[stage] = report["seconds"]
        elif (share_done := share - self._share_at_start) > _LEAST_SHARE_DONE:
            self._seconds[stage] = (now - self._started) / share_done
        if not self._seconds.keys() & _LONG_STAGES:
            return None
        scale = sum(self._seconds.values()) / sum(_STAGE_SHARES[name] for name in self._seconds)
        expected = {name: self._seconds.get(name, usual * scale) for name, usual in _STAGE_SHARES.items()}
        names = list(expected)
        left_of_generation = sum(expected[name] for name in names[names.index(stage) :]) - share * expected[stage]
        return left_of_generation + (self._last_generation - generation) * sum(expected.values())


def format_left(seconds: float | None) -> str:
    """Return the time left in words; empty if it is unknown."""
    if seconds is None:
        return ""
    return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"


def _run_and_generation(subject: str) -> tuple[str, int]:
    run, _, rest = subject.partition(" · generation ")
    return run, int(rest.partition(",")[0]) if rest else 0


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
