"""Result files: command, machine, versions, and figures with their goals."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from storage.artifacts.provenance import commit, machine, versions

RESULTS = Path(__file__).parent / "results"
WORK = Path(__file__).parent / "work"
"""Intermediate results, so that interrupted benchmarks resume; not part of the repository."""


Ends: TypeAlias = tuple[float, float]
"""A metric in generation 0 and in the last one."""


@dataclass(frozen=True)
class Figure:
    """One number. `holds`: whether the goal was met; None if this machine cannot decide."""

    name: str
    value: float | str | None
    unit: str
    goal: str = ""
    holds: bool | None = None

    def __post_init__(self) -> None:
        """Convert numpy scalars, which JSON cannot encode."""
        for name in ("value", "holds"):
            if isinstance(given := getattr(self, name), np.generic):
                object.__setattr__(self, name, given.item())


def demo_goals(runs: Mapping[str, Sequence[Mapping[str, Ends]]]) -> list[Figure]:
    """Return the five goals of the demo (naive collapses, guarded does not) for the worst of the seeds.

    `runs` maps an arm to one mapping a seed, from a metric to its value in generation 0 and in the last one.
    """

    def ratios(arm: str, metric: str) -> list[float]:
        return [seed[metric][1] / seed[metric][0] for seed in runs[arm]]

    naive, recalibrated = min(ratios("naive", "perplexity")), min(ratios("naive", "perplexity_at_best_temperature"))
    rare = max(seed["rare_word_coverage"][1] for seed in runs["naive"])
    guarded, covered = max(ratios("guarded", "perplexity")), min(ratios("guarded", "rare_word_coverage"))
    return [
        Figure(
            "naive: held-out perplexity, last / first generation, minimum over seeds",
            short(naive),
            "ratio",
            ">= 20",
            naive >= 20,
        ),
        Figure(
            "naive: perplexity at best temperature, last / first generation, minimum over seeds",
            short(recalibrated),
            "ratio",
            ">= 5",
            recalibrated >= 5,
        ),
        Figure(
            "naive: rare-word coverage, last generation, maximum over seeds",
            short(rare),
            "share",
            "< 0.03",
            rare < 0.03,
        ),
        Figure(
            "guarded: held-out perplexity, last / first generation, maximum over seeds",
            short(guarded),
            "ratio",
            "<= 1",
            guarded <= 1,
        ),
        Figure(
            "guarded: rare-word coverage, last / first generation, minimum over seeds",
            short(covered),
            "ratio",
            ">= 1",
            covered >= 1,
        ),
    ]


def short(value: float) -> float:
    """Four figures of a number."""
    return float(f"{value:.4g}")


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


def remembered(folder: Path, name: str, count: Callable[[], list[Figure]]) -> list[Figure]:
    """Return the stored figures of an earlier run, or measure and store them. Delete `folder` to start over."""
    note = folder / f"{name}.json"
    if not note.exists():
        found = json.dumps([asdict(figure) for figure in count()])
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(found)
    return [Figure(**figure) for figure in json.loads(note.read_text())]


def run_heirloom(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in its own process and capture its output.

    Raises:
        CalledProcessError: it failed.
    """
    return subprocess.run([sys.executable, "-m", "flows", *arguments], check=True, text=True, capture_output=True)
