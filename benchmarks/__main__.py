"""`python -m benchmarks NAME`: run one benchmark and write `benchmarks/results/NAME.json`."""

import argparse
import importlib
import os
import time

from benchmarks.figures import write_result

NAMES = (
    *("demo", "collapse", "storage", "dedup", "semantic", "quality", "generation", "training", "headline"),
    *("measure", "forecast", "operate"),
)


def main() -> None:
    """Run the benchmark named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog="Example: python -m benchmarks demo"
    )
    parser.add_argument("name", choices=NAMES)
    chosen = parser.parse_args().name
    # As the command line does: one thread a process, and no reports home.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    started = time.monotonic()
    figures = importlib.import_module(f"benchmarks.{chosen}").measure()
    path = write_result(chosen, time.monotonic() - started, figures)
    for figure in figures:
        mark = {True: "holds", False: "MISSED", None: ""}[figure.holds]
        print(f"{figure.name:<60} {figure.value} {figure.unit}  {figure.goal}  {mark}")
    print(path)


main()
