"""End a command in order on Ctrl-C, SIGTERM and SIGHUP, and within seconds even if something does not stop.

The first signal raises KeyboardInterrupt in the main thread, so that files, locks and processes are closed as after any
error. Threads and calls into compiled code cannot be interrupted. A thread therefore waits a few seconds, and then ends
the process as SIGKILL would, which every file of a store survives. A second Ctrl-C ends it at once.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_GRACE_SECONDS = 3.0
"""Time for an ordered end. Worker processes notice the end of this one after up to half a second more."""
_SHOW_CURSOR = b"\x1b[?25h"
_SENTENCES = {
    signal.SIGINT: "Interrupted. Run the same command again to resume.",
    signal.SIGTERM: "Terminated by SIGTERM. Run the same command again to resume.",
    signal.SIGHUP: "Ended because the terminal was closed. Run the same command again to resume.",
}


class InterruptedBySignalError(KeyboardInterrupt):
    """SIGTERM or SIGHUP. Libraries that end in order on Ctrl-C do so on these signals too."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


_watched = False
_first: signal.Signals | None = None
"""The signal that came first."""
_is_interrupted = False
_is_printed = False
"""Whether the sentence of the first signal is printed."""
_paused = threading.Event()


def watch_signals() -> None:
    """Raise KeyboardInterrupt on SIGINT, SIGTERM and SIGHUP, and end the process if it is still there seconds later.

    Signals that are ignored, as SIGHUP is under nohup, stay ignored. Call it once, in the main thread, before heavy
    imports. A signal counts even while a library handles it: the interpreter writes its number to a pipe first.
    """
    global _watched  # noqa: PLW0603  (signals belong to the process)
    if _watched:
        return
    _watched = True
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt_once)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise_interrupt)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(read_end,), name="signals", daemon=True).start()


@contextlib.contextmanager
def own_interrupts() -> Iterator[None]:
    """Leave Ctrl-C to the block: the SQL shell interrupts a statement, and Prefect's runner ends its flow runs."""
    before = signal.getsignal(signal.SIGINT)
    if before is _interrupt_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _paused.set()
    try:
        yield
    finally:
        _paused.clear()
        signal.signal(signal.SIGINT, before)


def end_of(interrupt: BaseException) -> tuple[str, int]:
    """Return the sentence and the exit code for a command that a signal ended."""
    number = _first or (interrupt.number if isinstance(interrupt, InterruptedBySignalError) else signal.SIGINT)
    return _SENTENCES[signal.Signals(number)], 128 + number


def exit_interrupted(interrupt: BaseException, write: Callable[[str], object]) -> None:
    """Write the sentence for a signal that ended a command, and exit.

    Where signals are watched, threads that still work are not waited for, and another Ctrl-C does nothing but end the
    process.
    """
    global _is_printed  # noqa: PLW0603
    sentence, code = end_of(interrupt)
    if not _watched:
        write(sentence)
        sys.exit(code)
    signal.signal(signal.SIGINT, _do_nothing)
    _is_printed = True
    with contextlib.suppress(OSError):
        write(sentence)
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001  (sends the last log records to a persistent server)
    os._exit(code)


def _interrupt_once(_number: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt at the first Ctrl-C; a second one must not raise while the first is being handled."""
    global _is_interrupted  # noqa: PLW0603
    if _is_interrupted:
        return
    _is_interrupted = True
    raise KeyboardInterrupt


def _raise_interrupt(number: int, _: FrameType | None) -> None:
    raise InterruptedBySignalError(number)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal that the thread handles which reads the pipe."""


def _end_in_time(read_end: int) -> None:
    """Wait for signals. After the first one the process has a few seconds; a second Ctrl-C ends it at once."""
    global _first  # noqa: PLW0603
    while True:
        for number in os.read(read_end, 64):
            if number not in _SENTENCES or (number == signal.SIGINT and _paused.is_set()):
                continue
            if _first is None:
                _first = signal.Signals(number)
                timer = threading.Timer(_GRACE_SECONDS, _exit, (_SENTENCES[_first], 128 + _first))
                timer.daemon = True
                timer.start()
            elif number == signal.SIGINT:
                _exit(_SENTENCES[_first], 128 + _first)


def _exit(sentence: str, code: int) -> None:
    """End this process at once."""
    with contextlib.suppress(OSError):
        # A progress bar may have hidden the cursor.
        terminal = next((descriptor for descriptor in (1, 2) if os.isatty(descriptor)), None)
        if terminal is not None:
            os.write(terminal, _SHOW_CURSOR + (b"" if _is_printed else b"\r\n"))
        if not _is_printed:
            os.write(2, f"heirloom: {sentence}\n".encode())
    os._exit(code)
