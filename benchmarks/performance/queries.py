"""Measure queries: ten generations of 100,000 records, a store of many runs, and concurrent readers during a run.

Times are CPU milliseconds of this process with two threads, the minimum of seven interleaved rounds. A view is compared
with plain `read_parquet` on the same files in the same rounds.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import duckdb

from benchmarks.figures import WORK, Figure, run_heirloom, short
from benchmarks.performance.query_stores import build_big, build_many
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES, bind
from storage.query.sandbox import open_readonly

_BIG, _MANY, _LIVE = (WORK / "asking" / name for name in ("big", "many", "live"))
_ROUNDS = 7


def figures() -> list[Figure]:
    """Make the stores that are not there, then ask."""
    if not (_BIG / "runs").exists():
        build_big(_BIG)
    if not (_MANY / "runs").exists():
        build_many(_MANY)
    catalog = open_catalog(_BIG)
    catalog.execute("set threads = 2")
    return [*_questions(catalog), *_views(catalog), *_texts(catalog), *_opening(), *_live()]


def _questions(catalog: duckdb.DuckDBPyConnection) -> list[Figure]:
    human = catalog.sql("select id from human_train order by id limit 1").fetchall()[0][0]
    dropped = catalog.sql("select duplicate_of from decisions where not kept order by duplicate_of limit 1").fetchall()[
        0
    ][0]

    def named(name: str, *arguments: str) -> Callable[[], object]:
        given = bind(catalog, name, arguments)
        return lambda: catalog.execute(QUERIES[name], given).fetchall()

    def asked(question: str) -> Callable[[], object]:
        return lambda: catalog.execute(question).fetchall()

    joined = """select generation, filter, count(*), avg(completion_tokens)
        from candidates join decisions using (run, generation, attempt, id) where not kept group by all"""
    timed: dict[tuple[str, int], Callable[[], object]] = {
        ("records per generation", 60): asked("select generation, count(*) from candidates group by all"),
        ("human share per generation", 60): asked(
            "select generation, avg((origin = 'human')::int) from corpus group by all"
        ),
        ("dropped by reason", 60): named("drop_reasons"),
        ("join of candidates with the decisions that dropped them", 150): asked(joined),
        ("record_history, human record", 300): named("record_history", human),
        ("record_history, candidate", 300): named("record_history", dropped),
        ("duplicates_of, candidate", 0): named("duplicates_of", dropped),
        ("descendants, human record", 0): named("descendants", human),
    }
    took = _least({name: ask for (name, _), ask in timed.items()})
    return [
        Figure(f"query over 1,000,000 records: {name}", short(took[name]), "ms CPU", *_below(took[name], limit))
        for name, limit in timed
    ]


def _views(catalog: duckdb.DuckDBPyConnection) -> list[Figure]:
    """Each view over files against the same files; every column but the text, whose weight would hide the rest."""
    timed: dict[str, Callable[[], object]] = {}
    views = {
        "candidates": "candidates",
        "decisions": "decisions",
        "corpus": "corpus",
        "human_train": None,
        "human_heldout": None,
    }
    for view, artifact in views.items():
        pattern = f"runs/*/*/*/{artifact}" if artifact else f"human/*/*/{view}"
        plain = f"read_parquet('{_BIG.absolute()}/{pattern}/*.parquet', hive_partitioning = false)"
        columns = [one for one in catalog.sql(f"select * from {plain}").columns if one != "text"]
        counted = ", ".join(f'bit_xor(hash("{one}"))' for one in columns)
        for kind, source in (("view", view), ("plain", plain)):
            timed[f"{view} {kind}"] = _asking(catalog, f"select {counted} from {source}")
    took = _least(timed)
    ratios = {view: took[f"{view} view"] / took[f"{view} plain"] for view in views}
    return [
        Figure(f"CPU time, view {view} / plain read_parquet", short(ratio), "ratio", "<= 1.3", ratio <= 1.3)
        for view, ratio in ratios.items()
    ]


def _asking(catalog: duckdb.DuckDBPyConnection, question: str) -> Callable[[], object]:
    return lambda: catalog.execute(question).fetchall()


def _texts(catalog: duckdb.DuckDBPyConnection) -> list[Figure]:
    """Plans that read a text: those of the named questions that show none."""
    given = {"record": "g001-0000000", "run": "big", "other_run": "big"}
    reading = []
    for name, question in QUERIES.items():
        wants = {key: value for key, value in given.items() if f"${key}" in question}
        ((_, plan),) = catalog.execute(f"explain (format json) {question}", wants).fetchall()
        projected = re.findall(r'"Projections": (\[[^]]*\]|"[^"]*")', plan)
        if any(re.search(r'"text"', columns) for columns in projected):
            reading.append(name)
    left = set(reading) - {"showcase_completions", "borderline_duplicates"}
    return [Figure("named queries that read text without returning it", len(left), "", "0", not left)]


def _opening() -> list[Figure]:
    took = _least({"open": lambda: open_catalog(_MANY).close(), "read-only": lambda: open_readonly(_MANY).close()})
    return [
        Figure(f"opening a catalog of 10 runs by 20 generations, {name}", short(value), "ms CPU")
        for name, value in took.items()
    ]


_READER = """import json, sys, time
from pathlib import Path
from storage.query.sandbox import open_readonly
asked, failed, root, until = 0, [], Path(sys.argv[1]), Path(sys.argv[2])
while not until.exists():
    for question in ("select generation, origin, count(*) from corpus group by all", "from generations",
                     "select count(*) from records",
                     "select filter, count(*) from decisions where not kept group by all", "from metrics"):
        try:
            open_readonly(root).execute(question).fetchall()
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")
        asked += 1
print(json.dumps([asked, failed]))
"""


def _live() -> list[Figure]:
    """Three processes ask, again and again, while a run of counted words is made."""
    subprocess.run(["rm", "-rf", str(_LIVE)], check=True)
    run_heirloom("ingest", "python-docs", "--name", "docs", "--set", "max_train_records=400", "--store", str(_LIVE))
    until = _LIVE / "over"
    command = [sys.executable, "-c", _READER, str(_LIVE), str(until)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        run_heirloom("run", "ngram", "--set", "dataset=docs", "--set", "num_generations=5", "--store", str(_LIVE))
    finally:
        until.touch()
        outputs = [json.loads(reader.communicate()[0]) for reader in readers]
    asked, failed = sum(one for one, _ in outputs), [error for _, errors in outputs for error in errors]
    return [
        Figure("queries by three processes during a run", asked, ""),
        Figure("of these, failed", "; ".join(sorted(set(failed))) or 0, "", "0", not failed),
    ]


def _least(timed: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """CPU milliseconds of each, the least of all rounds; they take turns, so that a busy minute meets them all."""
    took: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(_ROUNDS):
        for name, ask in timed.items():
            started = time.process_time()
            ask()
            took[name].append((time.process_time() - started) * 1000)
    return {name: min(rounds) for name, rounds in took.items()}


def _below(value: float, limit: int) -> tuple[str, bool | None]:
    return (f"<= {limit}", value <= limit) if limit else ("", None)


def measure() -> list[Figure]:
    """The same, as a benchmark of its own."""
    return figures()
