"""Compare implementations of one result by their minimum CPU seconds, in this process or another environment."""

import subprocess
import sysconfig
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import WORK

_FOLDER = WORK / "semantic"
_ROOT = Path(__file__).parents[2]
_PEERS = {
    "semhash": ("semhash==0.5.0",),
    "submodlib": ("submodlib-py==0.0.3", "numpy"),
    "apricot": ("apricot-select==0.6.1", "scikit-learn"),
    "openvino": ("openvino==2026.4.1",),
}

Timed = Callable[[], tuple[float, NDArray[Any]]]
"""A path: CPU seconds, and what it found."""


def raced(paths: dict[str, Timed], rounds: int) -> dict[str, tuple[float, NDArray[Any]]]:
    """The least CPU seconds of each path and what it found; 0 where it cannot be installed."""
    best: dict[str, tuple[float, NDArray[Any]]] = {}
    for _ in range(rounds):
        for name, path in paths.items():
            seconds, found = path()
            if name not in best or seconds < best[name][0]:
                best[name] = seconds, found
    return best


def timed(work: Callable[[], NDArray[Any]]) -> Timed:
    """A path in this process."""

    def run() -> tuple[float, NDArray[Any]]:
        started = time.process_time()
        found = work()
        return time.process_time() - started, found

    return run


def child(job: str, python: str | None, given: Path) -> Timed:
    """A path by `benchmarks.semantic_rivals` under another Python; 0 seconds where there is none."""
    target = _FOLDER / f"{job.replace(':', '-')}.npy"

    def run() -> tuple[float, NDArray[Any]]:
        if python is None:
            return 0.0, np.zeros(0, np.int64)
        words = [python, "-m", "benchmarks.performance.semantic_peers", job, str(given), str(target)]
        output = subprocess.run(words, cwd=_ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout
        return float(output.rsplit("seconds ", 1)[1]), np.load(target)

    return run


def peer(name: str, *, beside: bool = False) -> str | None:
    """Python of an environment that has the peer, made at the first call; None where it cannot be installed."""
    folder = WORK / "peers" / name
    python, done = folder / "bin/python", folder / ".installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        if beside:
            packages = next((folder / "lib").iterdir()) / "site-packages"
            (packages / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
        asked = subprocess.run([python, "-m", "pip", "install", "--quiet", *_PEERS[name]], check=False)
        if asked.returncode:
            return None
        done.touch()
    return str(python)
