"""Report the progress of a stage as log records.

Two loggers, since a progress bar and a log file need different rates:

* `heirloom.progress`: at most 2 records a second, with the numbers as `record.progress`; the terminal draws them.
* `tasks`: at most one record in 10 s, and one when the stage ends; for people and log files.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NotRequired, TypedDict

logger = logging.getLogger("tasks")
progress_logger = logging.getLogger("heirloom.progress")

_PROGRESS_INTERVAL_S, _LOG_INTERVAL_S = 0.5, 10


class ProgressReport(TypedDict):
    """What a log record of a stage carries as `progress`."""

    subject: str
    stage: str
    done: int
    total: int
    text: NotRequired[str]
    finished: NotRequired[bool]
    seconds: NotRequired[float]


class ShowcaseAnswer(TypedDict):
    """What a log record of a showcase completion carries as `showcase`."""

    subject: str
    prompt: str
    text: str
    """Prompt and completion."""


class ProgressReporter:
    """Callback that logs how much of a stage is done and the estimated time left.

    Args:
        subject: Attempt, run or dataset that the stage works on.
        stage: Name of the stage.
    """

    def __init__(self, subject: object, stage: str) -> None:
        self._subject, self._stage = subject, stage
        self._start = self._last_progress = self._last_log = time.monotonic()

    def __call__(self, done: int, total: int, text: str = "", resumed_from: int = 0) -> None:
        """Log progress, unless the last record is too recent.

        Args:
            done: Items done, the resumed ones included.
            total: Items of the whole stage.
            text: Description of the progress; default: "`done` of `total`".
            resumed_from: Items that were done before this process started; the time left is estimated without them.
        """
        now = time.monotonic()
        if now - self._last_progress < _PROGRESS_INTERVAL_S:
            return
        self._last_progress = now
        level = logging.DEBUG
        if now - self._last_log >= _LOG_INTERVAL_S:
            level = logging.INFO
            self._last_log = now
        seconds_per_item = (now - self._start) / max(1, done - resumed_from)
        seconds_left = seconds_per_item * (total - done)
        message = f"{self._subject} · {self._stage} {text or f'{done:,} of {total:,}'}, {seconds_left:.0f} s left"
        self._log(level, message, done=done, total=total, text=text)

    def log_start(self) -> None:
        """Log that the stage starts."""
        self._log(logging.DEBUG, f"{self._subject} · {self._stage}", done=0, total=0)

    def log_end(self) -> None:
        """Log that the stage has ended, and how long it took."""
        seconds = time.monotonic() - self._start
        message = f"{self._subject} · {self._stage} took {seconds:.1f} s"
        self._log(logging.INFO, message, done=1, total=1, finished=True, seconds=seconds)

    def _log(self, level: int, message: str, **values: object) -> None:
        fields = {"subject": str(self._subject), "stage": self._stage, **values}
        progress_logger.log(level, message, extra={"progress": fields})
        if level >= logging.INFO:
            logger.log(level, message)


@contextmanager
def progress(subject: object, stage: str) -> Iterator[ProgressReporter]:
    """Log the start and the end of a stage, and yield the callback that reports progress in between.

    A stage that raises has no end record.
    """
    reporter = ProgressReporter(subject, stage)
    reporter.log_start()
    yield reporter
    reporter.log_end()


def log_showcase(subject: object, prompt: str, text: str) -> None:
    """Log what a new model answers to the showcase prompt, for a terminal that shows it.

    Args:
        subject: Attempt whose model it is.
        prompt: Showcase prompt.
        text: Prompt and completion.
    """
    answer = ShowcaseAnswer(subject=str(subject), prompt=prompt, text=text)
    progress_logger.debug("%s · %s", subject, text, extra={"showcase": answer})
