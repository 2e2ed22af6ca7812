import builtins
import importlib.util
import logging
import os
import threading
from types import ModuleType

import numpy as np
import pytest

from curation.dedup.kernels.dispatch import (
    available_cores,
    choose_kernel,
    default_kernel,
    map_blocks,
    numba_kernel,
    numpy_kernel,
)


def test_numba_is_the_default_where_it_is_installed() -> None:
    assert importlib.util.find_spec("numba")
    assert default_kernel() is numba_kernel()
    assert (numba_kernel().name, numpy_kernel().name) == ("numba", "numpy")


def test_little_text_is_hashed_by_numpy() -> None:
    assert choose_kernel(0) is choose_kernel(1_000_000) is numpy_kernel()
    assert choose_kernel(100_000_000) is numba_kernel()


def test_without_numba_the_default_is_numpy_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert default_kernel.__wrapped__().name == "numpy"
    assert "numba is not installed" in caplog.text


def test_the_numpy_kernel_never_imports_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_numba(name: str, *rest: object, **more: object) -> ModuleType:
        assert not name.startswith(("numba", "llvmlite", "curation.dedup.kernels.numba")), name
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_numba)
    assert numpy_kernel.__wrapped__().name == "numpy"


@pytest.mark.parametrize("threads", [1, 2, None])
@pytest.mark.parametrize("sizes", [[], [0], [5] * 1000, [0] * 1000, [10**7, 1, 1, 10**7], list(range(500))])
def test_every_item_is_processed_once(sizes: list[int], threads: int | None) -> None:
    seen = np.zeros(len(sizes), np.int64)
    lock = threading.Lock()

    def work(start: int, stop: int) -> None:
        assert start < stop
        with lock:
            seen[start:stop] += 1

    map_blocks(work, np.array(sizes, np.int64), 1000, threads)
    assert (seen == 1).all()


def test_cores_are_counted_with_and_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert available_cores() == os.cpu_count()


def test_an_exception_in_a_block_is_raised() -> None:
    def work(start: int, stop: int) -> None:
        if start <= 500 < stop:
            raise MemoryError(start)

    with pytest.raises(MemoryError):
        map_blocks(work, np.full(1000, 50), 1000, 2)
