"""Parsing of Python source."""

import gc
import inspect
import sys
import threading
from collections.abc import Iterator

import pytest

from heirloom.syntax import parse_literal, parse_module


class _Collected:
    """Run bytecode when it is collected, so that other threads may run inside the collector."""

    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        for _ in range(200):
            pass


@pytest.fixture
def restless_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.slow
@pytest.mark.usefixtures("restless_threads")
def test_threads_parse_modules_at_once() -> None:
    source = inspect.getsource(inspect)
    errors: list[SystemError] = []

    def parse(depth: int) -> None:
        if depth:
            parse(depth - 1)
        else:
            parse_module(source)

    def parse_at_depths() -> None:
        for depth in range(8):
            _ = [_Collected() for _ in range(50)]
            try:
                parse(depth)
            except SystemError as error:
                errors.append(error)

    threads = [threading.Thread(target=parse_at_depths) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert gc.isenabled()


def test_a_literal_is_read_and_a_call_is_not() -> None:
    assert parse_literal("[{'role': 'user', 'content': None}]") == [{"role": "user", "content": None}]
    with pytest.raises(ValueError, match="malformed"):
        parse_literal("print(1)")
