"""Measure the cost of evaluation, false and late gate alarms, and a collapse that perplexity alone misses.

Cost: CPU seconds of generation and evaluation of one generation of 10,000 candidates, of this process and its workers.
Alarms: see `false_alarms`. The missed collapse: a tiny transformer that accumulates samples of temperature 0.7 keeps
its held-out loss but generates hardly any rare word. Runs are kept in `measure` and `alarms` of the work folder, so an
interrupted benchmark resumes; the generation whose cost is measured starts over.
"""

import contextlib
import functools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import flows.evolve as loop
from benchmarks.figures import WORK, Figure, short
from benchmarks.loop import false_alarms as alarms
from curation.splitting import IngestSettings
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.artifacts.artifact import read_manifest
from storage.query.catalog import open_catalog
from storage.readers.discovery import PYTHON_DOCS
from storage.runs.run import Attempt, Run
from tasks.backends import Resources
from tasks.backends.registry import Backends
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tasks.reporting.report import report

_STORE = WORK / "measure"
_SPENT = _STORE / "cpu.json"
_CANDIDATES = 10_000
_PASSAGES = 1000
_MOST = 0.15


def measure() -> list[Figure]:
    """Run what is not finished, then read the figures from the store."""
    site = Site(store=_STORE, resources=Resources())
    settings = IngestSettings(
        passage_length_chars=(80, 360),
        split_by="source",
        max_train_records=_PASSAGES,
        max_heldout_records=_PASSAGES // 4,
    )
    with without_prefect():
        ingest(_STORE, "docs", [PYTHON_DOCS], settings)
        evolve(_cold(), site)
        _timed(_wide(), site)
        page = (report(_STORE, ["cold"], "cold") / "report.md").read_text()
    return [*_case("would pass by held-out loss alone" in page), *_cost(), *alarms.figures()]


def _timed(recipe: Recipe, site: Site) -> None:
    """Evolve, and note the CPU seconds of each stage of generation 1."""
    if _SPENT.exists():
        return
    shutil.rmtree(Run(_STORE, recipe.name).folder, ignore_errors=True)
    spent: dict[str, float] = {}
    generate, measure_ = (_clocked(getattr(loop, name), spent) for name in ("generate", "evaluate"))
    with patch.object(loop, "generate", generate), patch.object(loop, "evaluate", measure_):
        evolve(recipe, site)
    _SPENT.write_text(json.dumps(spent))


def _clocked(stage: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    @functools.wraps(stage)
    def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  (arguments of any stage)
        (backends,) = (one for one in arguments if isinstance(one, Backends))
        before = cpu_seconds(backends)
        made = stage(*arguments, **named)
        spent[stage.__name__] = cpu_seconds(backends) - before
        return made

    return call


def cpu_seconds(backends: Backends) -> float:
    """CPU seconds of this process, of the workers, and of what they started, so far."""
    groups = {worker._process.pid for worker in backends.pool.workers}  # noqa: SLF001
    spent = time.process_time()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if int(fields[2]) in groups else 0
    return spent


def _cold() -> Recipe:
    return load_recipe("accumulate", ['name="cold"', 'dataset="docs"', "generate.temperature=0.7", "num_generations=4"])


def _wide() -> Recipe:
    changes = [
        'name="wide"',
        'dataset="docs"',
        "num_generations=1",
        f"prompts.prompts_per_human_record={_CANDIDATES / _PASSAGES}",
    ]
    return load_recipe("accumulate", changes)


def _case(is_reported: bool) -> list[Figure]:
    question = """select metric, arg_max(value, generation) / arg_min(value, generation) from metrics
        where run = 'cold' and subject = 'model' and source = 'all' group by metric"""
    last = dict(open_catalog(_STORE, ["cold"]).sql(question).fetchall())
    alarmed = "select distinct metric from gate_results where run = 'cold' and action <> 'go'"
    metrics = {metric for (metric,) in open_catalog(_STORE, ["cold"]).sql(alarmed).fetchall()}
    early = "rare_word_coverage" in metrics and "perplexity" not in metrics
    return [
        Figure("accumulate at 0.7: held-out perplexity, last / first generation", short(last["perplexity"]), "ratio"),
        Figure(
            "accumulate at 0.7: rare-word coverage, last / first generation", short(last["rare_word_coverage"]), "ratio"
        ),
        Figure(
            "accumulate at 0.7: a coverage limit is violated, the held-out loss limit is not",
            str(early),
            "",
            "True",
            early,
        ),
        Figure("accumulate at 0.7: the report names this case", str(is_reported), "", "True", is_reported),
    ]


def _cost() -> list[Figure]:
    spent = json.loads(_SPENT.read_text())
    share = spent["evaluate"] / spent["generate"]
    rows = read_manifest(Attempt(Run(_STORE, "wide"), 1).folder / "candidates")["rows"]
    return [
        Figure("candidates of the evaluated generation", rows, "records"),
        Figure("CPU time, generation", short(spent["generate"]), "s CPU"),
        Figure("CPU time, evaluation, including its samples", short(spent["evaluate"]), "s CPU"),
        Figure("CPU time, evaluation / generation", short(share), "ratio", f"<= {_MOST}", share <= _MOST),
    ]
