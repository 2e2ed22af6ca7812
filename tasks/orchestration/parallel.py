"""Parallel map over processes of this machine, with results in order."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from types import ModuleType
from typing import TypeVar

_SERIAL_ITEMS = 3
"""Items that are processed in this process: starting workers takes longer."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def parallel_map(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield `function(item)` for each item, in order.

    The first few items are processed here; one worker process a core does the others. Items are taken from the iterable
    as workers become free, so it may be larger than memory.

    Args:
        function: Function that can be pickled.
        items: Items that can be pickled.
    """
    remaining = iter(items)
    yield from map(function, islice(remaining, _SERIAL_ITEMS))
    first_parallel = list(islice(remaining, 1))
    if not first_parallel:
        return
    num_workers = os.cpu_count() or 1
    executor = ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_exit_with_parent,
        initargs=(os.getpid(),),
    )
    try:
        pending: deque[Future[_Result]] = deque()
        # Submitting starts the workers.
        with _hidden_main_module(), _blocked_interrupts():
            pending.append(executor.submit(function, first_parallel[0]))
            pending.extend(executor.submit(function, item) for item in islice(remaining, num_workers))
        while pending:
            yield pending.popleft().result()
            pending.extend(executor.submit(function, item) for item in islice(remaining, 1))
    except BaseException:
        # Also if the caller stops early. Leaving the executor would wait for all submitted items.
        _kill_workers(executor)
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _kill_workers(executor: ProcessPoolExecutor) -> None:
    # The executor has no public method for this before Python 3.14 (`kill_workers`).
    for process in list((executor._processes or {}).values()):  # noqa: SLF001
        process.kill()


@contextlib.contextmanager
def _blocked_interrupts() -> Iterator[None]:
    """Start processes with SIGINT blocked: one that is interrupted during its imports would print a traceback.

    This process still receives it, in another thread or afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _hidden_main_module() -> Iterator[None]:
    """Hide the caller's script: `spawn` would import it in each worker, and it may lack an `if __name__` guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _exit_with_parent(parent_pid: int) -> None:
    """In a worker: leave Ctrl-C to the parent process, and exit when the parent no longer exists."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def poll_parent() -> None:
        while os.getppid() == parent_pid:
            threading.Event().wait(0.5)
        os._exit(1)

    threading.Thread(target=poll_parent, daemon=True).start()
