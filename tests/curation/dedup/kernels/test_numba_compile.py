import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.dedup.kernels.numba_compile import jit, load_u64, trailing_zeros
from tests.support.paths import ROOT


@jit
def _eight(content: np.ndarray, place: int) -> np.uint64:
    return load_u64(content, place)


@jit
def _zeros(value: np.uint64) -> np.uint64:
    return trailing_zeros(value)


def test_eight_bytes_are_read_from_any_place() -> None:
    content = np.arange(1, 20, dtype=np.uint8)
    for place in range(12):
        assert int(_eight(content, place)) == int.from_bytes(bytes(content[place : place + 8]), "little")


def test_trailing_zeros_are_counted() -> None:
    assert [int(_zeros(np.uint64(1 << bit))) for bit in (0, 7, 8, 63)] == [0, 7, 8, 63]


def test_machine_code_is_kept_where_it_can_be(tmp_path: Path) -> None:
    code = "from curation.dedup.kernels.dispatch import numba_kernel; import numpy as np; numba_kernel().band_hashes(np.zeros((1, 2), np.uint32), 1, np.zeros((1, 2), np.uint64))"
    kept = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=kept, check=True)
    assert list((tmp_path / "cache").rglob("*.nbi"))


def test_a_machine_without_a_folder_to_write_to_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])

    def twice(value: int) -> int:
        return 2 * value

    assert jit(twice)(21) == 42
