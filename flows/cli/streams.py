"""Standard streams that are closed, full, or have lost their reader."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

BROKEN_PIPE_EXIT_CODE = 141
"""Exit code of a process that SIGPIPE ended, as shells report it."""


class OutputError(OSError):
    """Standard output cannot be written."""


class _Output(io.TextIOWrapper):
    """Standard output whose errors differ from those of other files."""

    def write(self, text: str) -> int:
        with _output_errors():
            return super().write(text)

    def flush(self) -> None:
        with _output_errors():
            super().flush()


class _ClosedOutput(io.TextIOWrapper):
    """Standard output of a process that was started without one. It notes that something was written."""

    is_used = False

    def write(self, text: str) -> int:
        self.is_used = self.is_used or bool(text)
        return super().write(text)


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


def prepare_streams() -> None:
    """Mark errors of standard output, and open closed streams on the null device, as in `heirloom ... >&-`.

    Otherwise the next file that is opened would get the number of the stream, and receive what is printed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is `descriptor`
    if sys.stdin is None:
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115  (open until exit)
    if sys.stdout is None:
        sys.stdout = _ClosedOutput(Path(os.devnull).open("wb"), encoding="utf-8")  # noqa: SIM115
    elif isinstance(sys.stdout, io.TextIOWrapper):
        encoding, errors, is_terminal = sys.stdout.encoding, sys.stdout.errors, sys.stdout.isatty()
        sys.stdout = _Output(sys.stdout.detach(), encoding=encoding, errors=errors, line_buffering=is_terminal)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def finish_output() -> None:
    """Flush standard output.

    Raises:
        OutputError: it cannot be written, or something was written to it although it is closed.
        BrokenPipeError: its reader has closed it, as `head` does.
    """
    if isinstance(sys.stdout, _ClosedOutput) and sys.stdout.is_used:
        raise OutputError(errno.EBADF, "standard output is closed")
    sys.stdout.flush()


def discard_output() -> None:
    """Send the rest of standard output to the null device: Python flushes it at exit, and would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
