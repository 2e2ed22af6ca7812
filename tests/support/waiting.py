"""Waiting for what comes in its own time, as long as a slow machine may need."""

import time
from collections.abc import Callable
from typing import TypeVar

Come = TypeVar("Come")


def until(come: Callable[[], Come], what: str, seconds: float = 300) -> Come:
    """What came, as soon as it is true; fails, saying that it waited for `what`, where it never is."""
    end = time.monotonic() + seconds
    while not (found := come()):
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.1)
    return found
