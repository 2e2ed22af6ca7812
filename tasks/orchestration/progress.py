"""How far a stage is, said as log records: a panel draws them, Prefect's UI lists the rarer ones, a file keeps them.

What is for drawing comes at most twice a second; what is for reading, on the logger `tasks`, comes at most
every ten seconds and when a stage ends.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.backends import Progress

logger = logging.getLogger("tasks")
progress_logger = logging.getLogger("heirloom.progress")
"""Hears every record of progress, and nobody but a panel listens to it."""


@contextmanager
def progress(subject: object, name: str) -> Iterator[Progress]:
    """Say that a stage of `subject` begins, goes on, and has ended."""
    started = time.monotonic()
    _say(logging.DEBUG, subject, name, 0, 0, f"{subject} · {name}")
    yield _ProgressReporter(subject, name, started)
    seconds = time.monotonic() - started
    _say(logging.INFO, subject, name, 1, 1, f"{subject} · {name} took {seconds:.1f} s", finished=True, seconds=seconds)


class _ProgressReporter:
    def __init__(self, subject: object, name: str, started: float) -> None:
        self._subject, self._name, self._started = subject, name, started
        self._drawn = self._read = started

    def __call__(self, done: int, of: int, said: str = "", before: int = 0) -> None:
        """Tell it; `before` were done when an interrupted stage went on, and took no time of this one."""
        now = time.monotonic()
        if now - self._drawn < 0.5:
            return
        self._drawn = now
        level = logging.INFO if now - self._read >= 10 else logging.DEBUG
        self._read = now if level == logging.INFO else self._read
        left = (now - self._started) / max(1, done - before) * (of - done)
        _say(
            level,
            self._subject,
            self._name,
            done,
            of,
            f"{self._subject} · {self._name} {said or f'{done:,} of {of:,}'}, {left:.0f} s left",
            said=said,
        )


def _say(level: int, subject: object, name: str, done: int, of: int, message: str, **more: object) -> None:
    progress = {"subject": str(subject), "stage": name, "done": done, "of": of, **more}
    progress_logger.log(level, message, extra={"progress": progress})
    if level >= logging.INFO:
        logger.log(level, message)
