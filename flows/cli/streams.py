"""Standard streams that are closed, full, or have lost their reader."""

import io
import os
import sys
from pathlib import Path

BROKEN_PIPE_EXIT_CODE = 141
"""Exit code of a process that SIGPIPE ended, as shells report it."""


class _ClosedOutput(io.TextIOWrapper):
    """Standard output of a process that was started without one. It notes that something was written."""

    is_used = False

    def write(self, text: str) -> int:
        self.is_used = self.is_used or bool(text)
        return super().write(text)


def open_closed_streams() -> None:
    """Open standard streams that the caller closed, as `heirloom ... <&- >&-` does, on the null device.

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
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def output_error() -> str:
    """Flush standard output; return why what was printed is lost, or an empty string.

    Raises:
        BrokenPipeError: the reader of standard output has closed it, as `head` does.
    """
    if isinstance(sys.stdout, _ClosedOutput):
        return "standard output is closed" if sys.stdout.is_used else ""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        return error.strerror or str(error)
    return ""


def discard_output() -> None:
    """Send the rest of standard output to the null device: Python flushes it at exit, and would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
