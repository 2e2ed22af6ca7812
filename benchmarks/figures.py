"""A result file: what was run, where, with which versions, and the figures with their goals."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from storage.provenance import commit, machine, versions

RESULTS = Path(__file__).parent / "results"
WORK = Path(__file__).parent / "work"
"""Where benchmarks keep what they need to go on after an interruption; not part of the repository."""


@dataclass(frozen=True)
class Figure:
    """One number; `holds` says whether the goal was met, None where it is not for this machine to say."""

    name: str
    value: float | str | None
    unit: str
    goal: str = ""
    holds: bool | None = None


def write_result(name: str, seconds: float, figures: list[Figure]) -> Path:
    """Write `results/NAME.json`; returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {
        "command": f"python -m benchmarks {name}",
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "seconds": round(seconds, 1),
        "figures": [asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def run_heirloom(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, its output kept.

    Raises:
        CalledProcessError: it failed.
    """
    return subprocess.run([sys.executable, "-m", "flows", *arguments], check=True, text=True, capture_output=True)
