"""What a failure leaves: one sentence in the state, the log and the terminal, and the traceback in a file of the store.

Prefect logs an exception with its traceback at every level it passes: the task, the flow run of the generation, and
that of the run. `shorten_tracebacks` leaves the sentence of each.
"""

import contextlib
import errno
import logging
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from heirloom.errors import HeirloomError, one_line
from storage.runs.failure import FAILURE_LOG, clear_failure, record_failure
from storage.runs.run import Run

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE)
"""Errors of the machine that name no file."""
_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")


def expected_sentence(error: BaseException) -> str:
    """Return the sentence that explains an error which users can cause; empty for a bug."""
    from pydantic import ValidationError

    if isinstance(error, HeirloomError):
        return str(error)
    if isinstance(error, ValidationError):
        from flows.config.loading import format_validation_error

        return format_validation_error(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror or error}: {error.filename}"
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        return f"{error.strerror}"
    from tasks.backends.workers.process import WorkerError

    return str(error) if isinstance(error, WorkerError) else ""


def sentence(error: BaseException) -> str:
    """Return one sentence about any error."""
    if expected := expected_sentence(error):
        return expected
    described = one_line(error) if isinstance(error, Exception) else type(error).__name__
    return described if described == type(error).__name__ else f"{type(error).__name__}: {described}"


@contextlib.contextmanager
def recorded_failure(run: Run) -> Iterator[None]:
    """Keep the sentence of an error that leaves the block with the run, and its traceback in the store's log."""
    clear_failure(run)
    try:
        yield
    except Exception as error:
        record_failure(run, sentence(error))
        write_traceback(run.root, run.name, error)
        raise


def write_traceback(store: Path, subject: str, error: Exception) -> None:
    """Append the traceback of an error to the log of failures; do nothing if that cannot be written."""
    with contextlib.suppress(OSError):
        path = store / "logs" / FAILURE_LOG
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {subject}\n{''.join(traceback.format_exception(error))}\n")


def shorten_tracebacks() -> None:
    """Log the exceptions of flow runs and task runs as one sentence each."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _shorten not in logger.filters:
            logger.addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], BaseException):
        record.msg, record.args = f"Failed: {sentence(record.exc_info[1])}", ()
        record.exc_info = record.exc_text = None
    return True
