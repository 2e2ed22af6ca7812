"""Run one benchmark and write `benchmarks/results/NAME.json`: `python -m benchmarks NAME`."""

import argparse
import importlib
import os
import time

from benchmarks.figures import write_result

MODULES = {
    "demo": "loop.demo",
    "collapse": "loop.collapse",
    "measure": "loop.evaluate",
    "forecast": "loop.forecast",
    "headline": "headline.run",
    "storage": "performance.storage",
    "dedup": "performance.dedup",
    "semantic": "performance.semantic",
    "quality": "performance.quality",
    "generation": "performance.generation",
    "training": "performance.training",
    "real": "performance.real_model",
    "finetuning": "performance.finetuning",
    "scale": "performance.scale",
    "operate": "operations.operate",
    "readers": "operations.readers",
    "pii": "operations.pii",
    "safety": "operations.safety",
    "verification": "operations.verification",
    "reproductions": "reproductions.run",
}
"""Name of a benchmark: its module below `benchmarks`."""


def main() -> None:
    """Run the benchmark named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog="Example: python -m benchmarks demo"
    )
    parser.add_argument("name", choices=MODULES)
    parser.add_argument(
        "--row", action="append", default=[], help="of reproductions: run this row alone; may be repeated"
    )
    given = parser.parse_args()
    chosen = given.name
    if given.row and chosen != "reproductions":
        parser.error(f"--row chooses among the rows of reproductions; {chosen} has none")
    # As the command line does: one thread a process, and no reports home.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    started = time.monotonic()
    measure = importlib.import_module(f"benchmarks.{MODULES[chosen]}").measure
    try:
        figures = measure(given.row) if given.row else measure()
    except ValueError as mistake:
        parser.error(str(mistake))
    path = write_result(chosen, time.monotonic() - started, figures)
    for figure in figures:
        mark = {True: "holds", False: "MISSED", None: ""}[figure.holds]
        print(f"{figure.name:<60} {figure.value} {figure.unit}  {figure.goal}  {mark}")
    print(path)


main()
