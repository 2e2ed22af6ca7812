"""Many items through one function, by as many processes as there are cores, answers in order.

A few items are done in this process: starting others takes longer than that. The others end with their owner.
"""

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

_ALONE = 3

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def parallel_map(work: Callable[[_Item], _Answer], items: Iterable[_Item]) -> Iterator[_Answer]:
    """What `work` makes of each item, in order; by several processes where there are many items."""
    waiting = iter(items)
    yield from map(work, islice(waiting, _ALONE))
    first = list(islice(waiting, 1))
    if not first:
        return
    many = os.cpu_count() or 1
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(many, mp_context=spawn, initializer=_exit_with_parent, initargs=(os.getpid(),)) as pool:
        ahead: deque[Future[_Answer]] = deque()
        with _no_main():
            ahead.append(pool.submit(work, first[0]))
            ahead.extend(pool.submit(work, item) for item in islice(waiting, many))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(work, item) for item in islice(waiting, 1))


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Start processes that do not run the caller's script again, which may be one without a guard."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _exit_with_parent(owner: int) -> None:
    """In a worker: leave an interrupt to the owner, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == owner:
            threading.Event().wait(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
