"""A whole store as DuckDB views, and the named questions that people ask of it.

The views are made from the manifests: what is not finished is not there. Views show accepted attempts;
those ending in `_all` show every attempt. Nothing here writes.
"""

import glob
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from storage import evaluation, records
from storage.artifact import MANIFEST, parts, read_manifest
from storage.run import Run, runs
from storage.standing import accepted_attempts, attempt_numbers
from storage.tombstones import FORGOTTEN, read_tombstones

if TYPE_CHECKING:
    import duckdb

_PER_GENERATION = {
    "candidates": (records.CANDIDATES, "candidates"),
    "decisions": (records.DECISIONS, "decisions"),
    "corpus": (records.CORPUS, "corpus"),
    "metrics": (records.METRICS, "metrics"),
    "verdicts": (records.VERDICTS, "verdict"),
    "voice": (records.VOICE, "voice"),
    "training": (records.TRAINING, "model"),
    "kept_out": (records.DECISIONS, "kept_out"),
    "contamination": (records.CONTAMINATION, "contamination"),
}
"""View: schema and artifact folder."""

_ATTEMPT = [("run", pa.string()), ("generation", pa.int64()), ("attempt", pa.int64())]
_JOURNAL = pa.schema(
    [
        *_ATTEMPT,
        *(("event", pa.string()), ("time", pa.float64()), ("reason", pa.string()), ("snapshot", pa.int64())),
        ("evaluation", pa.list_(pa.string())),
    ]
)
_GENERATIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("run",)),
        *((name, pa.int64()) for name in ("generation", "attempt", "candidates", "survivors", "corpus", "human")),
        ("human_fraction", pa.float64()),
        ("human_token_fraction", pa.float64()),
        ("contaminated", pa.int64()),
        ("tokens", pa.int64()),
        ("generated_tokens", pa.int64()),
        ("model", pa.string()),
        ("snapshot", pa.int64()),
        ("accepted", pa.bool_()),
        ("seconds", pa.float64()),
    ]
)
_RUNS = pa.schema(
    [
        *((name, pa.string()) for name in ("run", "question", "human", "policy", "backend", "sampler")),
        *((name, pa.int64()) for name in ("generations", "seed")),
        *(("forked_from", pa.string()), ("forked_generation", pa.int64())),
    ]
)
_HUMAN_VIEWS = ("reserve", "heldout", "set_aside")
_HUMAN_KEYS = [("human", pa.string()), ("snapshot", pa.int32())]
_GENERATION_KEYS = [("run", pa.string()), ("generation", pa.int32()), ("attempt", pa.int32())]
_LINEAGE = pa.schema(
    [*_ATTEMPT, *((name, pa.string()) for name in ("artifact", "fingerprint", "parent", "parent_fingerprint"))]
)

QUESTIONS = {
    "collapse_curve": """
        select run, generation, subject, metric, value, low, high from metrics
        where metric in ('perplexity', 'recalibrated_perplexity', 'rare_word_coverage', 'types', 'repetition')
        and subject = 'model' and source = 'all' order by metric, run, generation""",
    "why_dropped": """
        select run, generation, stage, reason, count(*) as records, round(avg(evidence), 3) as evidence
        from decisions where not kept group by all order by all""",
    "outcome": """
        with told as (select run, metric, value, generation, max(generation) over (partition by run) as last
                      from metrics where subject = 'model' and source = 'all')
        select run, last as generations,
            max(value) filter (metric = 'perplexity' and generation = 0) as perplexity_first,
            max(value) filter (metric = 'perplexity' and generation = last) as perplexity_last,
            max(value) filter (metric = 'recalibrated_perplexity' and generation = 0) as recalibrated_first,
            max(value) filter (metric = 'recalibrated_perplexity' and generation = last) as recalibrated_last,
            max(value) filter (metric = 'rare_word_coverage' and generation = 0) as rare_first,
            max(value) filter (metric = 'rare_word_coverage' and generation = last) as rare_last,
            max(value) filter (metric = 'types' and generation = 0) as types_first,
            max(value) filter (metric = 'types' and generation = last) as types_last,
            max(value) filter (metric = 'repetition' and generation = 0) as repetition_first,
            max(value) filter (metric = 'repetition' and generation = last) as repetition_last
        from told group by all order by perplexity_last desc""",
    "one_prompt": """
        select run, generation, prompt, text from voice where prompt <> '' order by generation, run""",
    "human_share": """
        select run, generation, human_fraction, human_token_fraction from generations order by all""",
    "decontamination": evaluation.DECONTAMINATION,
    "met_evaluation": evaluation.MET_EVALUATION,
}
"""Named questions that need no argument."""


def open_catalog(root: Path, only: Sequence[str] = ()) -> "duckdb.DuckDBPyConnection":
    """A connection with every view over the store at `root`; over the runs named in `only`, if any are.

    Raises:
        ValueError: there is no store at `root`.
    """
    if not root.is_dir():
        raise ValueError(f"there is no store at {root}; make one with: heirloom demo, or heirloom ingest")
    # A command that asks nothing neither waits for DuckDB nor hears its complaints at exit.
    import duckdb

    connection = duckdb.connect()
    found = [run for run in runs(root) if not only or run.name in only]
    _table(connection, "forgotten", FORGOTTEN, [asdict(one) for one in read_tombstones(root)])
    for view, (schema, folder) in _PER_GENERATION.items():
        _view(connection, f"{view}_all", schema, _sources(found, folder, accepted_only=False), _GENERATION_KEYS)
        _view(connection, view, schema, _sources(found, folder, accepted_only=True), _GENERATION_KEYS)
    for side in _HUMAN_VIEWS:
        schema = records.SET_ASIDE if side == "set_aside" else records.RESERVE
        _view(connection, side, schema, _human_sources(root, side), _HUMAN_KEYS)
    for view, (schema, folder) in evaluation.VIEWS.items():
        _view(connection, view, schema, evaluation.sources(root, folder), evaluation.KEYS)
    _table(connection, "journal", _JOURNAL, [{"run": run.name, **entry} for run in found for entry in run.journal()])
    _table(connection, "generations_all", _GENERATIONS, [row for run in found for row in _generations(run)])
    connection.execute("create view generations as select * from generations_all where accepted")
    _table(connection, "runs", _RUNS, [_described(run) for run in found])
    _table(connection, "lineage", _LINEAGE, [row for run in found for row in _edges(run)])
    connection.execute(_RECORDS)
    return connection


_RECORDS = """create view records as
    select id, text, origin, born, source, digest, null as run, null as generation from reserve
    union all by name select id, text, origin, born, source, digest, null as run, null as generation from heldout
    union all by name select id, text, origin, born, source, digest, null as run, null as generation from evaluation
    union all by name select id, text, origin, born, source, digest, run, generation from candidates"""


def _sources(found: Sequence[Run], folder: str, accepted_only: bool) -> list[tuple[str, Path]]:
    """(constant columns in SQL, folder) of every finished artifact of one kind."""
    sources = []
    for run in found:
        accepted = accepted_attempts(run)
        for manifest in run.folder.glob(f"generation=*/attempt=*/{folder}/{MANIFEST}"):
            generation, attempt = attempt_numbers(manifest.parent.parent)
            if not accepted_only or (generation, attempt) in accepted:
                constants = f"{_quoted(run.name)} as run, {generation} as generation, {attempt} as attempt"
                sources.append((constants, manifest.parent))
    return sorted(sources, key=lambda source: str(source[1]))


def _human_sources(root: Path, side: str) -> list[tuple[str, Path]]:
    sources = []
    for manifest in sorted((root / "human").glob(f"*/snapshot=*/{side}/{MANIFEST}")):
        snapshot = int(manifest.parent.parent.name.split("=")[1])
        name = manifest.parent.parent.parent.name
        sources.append((f"{_quoted(name)} as human, {snapshot} as snapshot", manifest.parent))
    return sources


def _view(
    connection: "duckdb.DuckDBPyConnection",
    view: str,
    schema: pa.Schema,
    sources: list[tuple[str, Path]],
    keys: list[tuple[str, pa.DataType]],
) -> None:
    # Only where something was forgotten, and a text could be it: a join is not free.
    hiding = "digest" in schema.names and connection.execute("from forgotten limit 1").fetchall()
    less = " anti join forgotten using (digest)" if hiding else ""
    selects = [
        f"select *, {constants} from read_parquet([{_listed(folder)}], hive_partitioning=false){less}"
        for constants, folder in sources
    ]
    if not selects:
        _table(connection, view, pa.schema([*schema, *keys]), [])
        return
    connection.execute(f"create view {view} as {' union all by name '.join(selects)}")


def _listed(folder: Path) -> str:
    """The parts as DuckDB is told them: it takes brackets, stars and question marks in a path for a pattern."""
    return ", ".join(_quoted(glob.escape(str(part))) for part in parts(folder))


def _table(connection: "duckdb.DuckDBPyConnection", name: str, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    connection.register("rows", pa.Table.from_pylist(rows, schema=schema))
    connection.execute(f"create table {name} as select * from rows")
    connection.unregister("rows")


def _generations(run: Run) -> list[dict[str, Any]]:
    accepted = accepted_attempts(run)
    rows = []
    for folder in sorted(
        {path.parents[1] for path in run.folder.glob(f"generation=*/attempt=*/*/{MANIFEST}")}, key=attempt_numbers
    ):
        found = {path.parent.name: read_manifest(path.parent) for path in folder.glob(f"*/{MANIFEST}")}
        generation, attempt = attempt_numbers(folder)
        facts = {key: value for manifest in found.values() for key, value in manifest["facts"].items()}
        rows.append(
            {
                "run": run.name,
                "generation": generation,
                "attempt": attempt,
                "candidates": found["candidates"]["rows"] if "candidates" in found else 0,
                "model": found["model"]["fingerprint"] if "model" in found else None,
                "accepted": (generation, attempt) in accepted,
                "seconds": sum(manifest["finished"] - manifest["started"] for manifest in found.values()),
                **{name: facts.get(name) for name in _GENERATIONS.names if name in facts},
            }
        )
    return rows


def _described(run: Run) -> dict[str, Any]:
    recipe = run.recipe()
    return {
        "run": run.name,
        "policy": recipe["mix"]["policy"],
        "backend": recipe["train"]["backend"],
        "sampler": recipe["generate"]["sampler"],
        **{name: recipe[name] for name in ("question", "human", "generations", "seed")},
        "forked_from": run.forked().get("run"),
        "forked_generation": run.forked().get("generation"),
    }


def _edges(run: Run) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(run.folder.glob(f"generation=*/attempt=*/*/{MANIFEST}")):
        manifest = read_manifest(path.parent)
        made = (run.name, *attempt_numbers(path.parent.parent), manifest["name"], manifest["fingerprint"])
        rows += [dict(zip(_LINEAGE.names, (*made, *edge), strict=True)) for edge in manifest["parents"].items()]
    return rows


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
