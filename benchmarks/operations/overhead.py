"""What orchestration costs: the same work with Prefect and without, a finished run again, threads and a Ray cluster."""

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.operations.deployment import World
from benchmarks.operations.kills import stored
from storage.artifacts.artifact import MANIFEST, read_manifest
from tasks.backends.workers.ray_cluster import LOCAL


def costs() -> dict[str, Callable[[World], dict[str, Any]]]:
    """The pieces, by name."""
    return {"finished-run": _finished_run, "overhead": _overhead, "ray": _ray}


def figures(again: dict[str, Any], over: dict[str, Any], ray: dict[str, Any]) -> list[Figure]:
    """Figures of the parts, with their goals."""
    ratio = sum(over["prefect"]) / sum(over["plain"])
    same, five = ray["unlike"] == 0, "repeat of a finished run of five generations, server running"
    return [
        Figure(five, again["seconds"], "s", "< 10", again["seconds"] < 10),
        Figure(f"{five}: CPU", again["cpu"], "s"),
        Figure(
            "CPU time of the Prefect run / plain functions, demo recipe",
            round(ratio, 3),
            "ratio",
            "<= 1.05",
            ratio <= 1.05,
        ),
        Figure(
            "threads and a local Ray cluster: files and fingerprints that differ",
            ray["unlike"],
            "of " + str(ray["files"]),
            "0",
            same,
        ),
        Figure("the same recipe on threads", ray["threads"], "s"),
        Figure("the same recipe on a local Ray cluster", ray["ray"], "s"),
    ]


def _finished_run(made: World) -> dict[str, Any]:
    words = ("flows", "run", "ngram", "--set", "dataset=letters", "--set", "num_generations=5")
    made.command(*words)
    since, before = time.monotonic(), _cpu()
    made.command(*words)
    return {"seconds": round(time.monotonic() - since, 1), "cpu": round(_cpu() - before, 1)}


def _ray(made: World) -> dict[str, Any]:
    """The same recipe with the encoder that costs, in a store each: what is stored, and how long it took."""
    changes = (
        "dataset=letters",
        "num_generations=1",
        "prompts.prompts_per_human_record=30",
        'curate.filters=["exact", "semantic"]',
    )
    words = [word for change in (*changes, "curate.encoder=minilm") for word in ("--set", change)]
    results: dict[str, Any] = {}
    kept: dict[str, dict[str, str]] = {}
    for name, ray in (("threads", ""), ("ray", LOCAL)):
        store, site = made.folder / f"on-{name}", made.folder / f"{name}.toml"
        shutil.copytree(made.store / "human", store / "human")
        site.write_text(f'store = "{store}"\nresources = {{ ray = "{ray}", num_sample_workers = 2 }}\n')
        since = time.monotonic()
        made.command("flows", "run", "ngram", *words, "--site", str(site))
        results[name] = round(time.monotonic() - since, 1)
        kept[name] = stored(store) | _fingerprints(store)
    return results | {
        "unlike": len({name for name, _ in kept["threads"].items() ^ kept["ray"].items()}),
        "files": len(kept["threads"]),
    }


def _fingerprints(store: Path) -> dict[str, str]:
    found = store.glob(f"runs/*/generation=*/attempt=*/*/{MANIFEST}")
    return {str(path.relative_to(store)): read_manifest(path.parent)["fingerprint"] for path in found}


def _overhead(made: World) -> dict[str, Any]:
    """CPU seconds of the same generations with and without Prefect, in turns, each in a store of its own."""
    results: dict[str, list[float]] = {"prefect": [], "plain": []}
    for turn in range(2):
        for name, before in (("plain", "with without_prefect():"), ("prefect", "if True:")):
            store = made.folder / f"{name}-{turn}"
            shutil.copytree(made.store / "human", store / "human")
            since = _cpu()
            subprocess.run(
                [sys.executable, "-c", _GUARDED.format(before=before, store=str(store))],
                cwd=made.folder / "clone",
                env=made.environment(),
                check=True,
            )
            results[name].append(round(_cpu() - since, 2))
            made.say(f"{name}: {results[name][-1]:.1f} s of CPU")
    return results


_GUARDED = """
from flows.orchestration.environment import configure_environment
configure_environment()
from flows.evolve import evolve
from flows.config.site import Site; from flows.config.loading import load_recipe
from tasks.orchestration.prefect import without_prefect
if __name__ == "__main__":
    {before}
        evolve(load_recipe("guarded", ["dataset=letters", "num_generations=1"]), Site(store={store!r}))
"""


def _cpu() -> float:
    """CPU seconds of every child that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
