"""A whole store as DuckDB views.

The views are made from the manifests: what is not finished is not there. Views show accepted attempts;
those ending in `_all_attempts` show every attempt. Which run, generation and attempt a row belongs to is read off the path
of its file, so that a question about one generation opens the files of that one alone. Nothing here writes to
an artifact.
"""

import glob
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from heirloom.errors import HeirloomError
from storage.artifacts import schemas as records
from storage.artifacts.tombstones import TOMBSTONES, read_tombstones
from storage.datasets import eval_sets as evaluation
from storage.files import atomic_file
from storage.query.scan import ScannedRun, StoreScan, scan_store
from storage.runs.status import work_seconds

if TYPE_CHECKING:
    import duckdb

_PER_GENERATION = {
    "candidates": (records.CANDIDATES, "candidates"),
    "decisions": (records.DECISIONS, "decisions"),
    "corpus": (records.CORPUS, "corpus"),
    "metrics": (records.METRICS, "metrics"),
    "gate_results": (records.GATE_RESULTS, "verdict"),
    "collapse_tests": (records.COLLAPSE_TESTS, "collapse_tests"),
    "forecast": (records.FORECAST, "forecast"),
    "eval_samples": (records.EVAL_SAMPLES, "eval_samples"),
    "scores": (records.SCORES, "scores"),
    "training": (records.TRAINING, "model"),
    "pairs": (records.PAIRS, "pairs"),
    "excluded_records": (records.DECISIONS, "excluded_records"),
    "contamination_report": (records.CONTAMINATION_REPORT, "contamination_report"),
    "topics": (records.TOPICS, "topics"),
}
"""View: schema and artifact folder."""
_HUMAN = {
    "human_train": records.HUMAN_RECORDS,
    "human_heldout": records.HUMAN_RECORDS,
    "rejected_documents": records.REJECTED_DOCUMENTS,
}

# <run>/generation=3/attempt=1/<artifact>/<part>, and <name>/snapshot=1/<side>/<part>, counted from the end.
_GENERATION_KEYS = {
    "run": "string_split(filename, '/')[-5]",
    "generation": "cast(substr(string_split(filename, '/')[-4], 12) as integer)",
    "attempt": "cast(substr(string_split(filename, '/')[-3], 9) as integer)",
}
_HUMAN_KEYS = {
    "dataset": "string_split(filename, '/')[-4]",
    "snapshot": "cast(substr(string_split(filename, '/')[-3], 10) as integer)",
}
_EVALUATION_KEYS = {"dataset": "split_part(filename, '/', -5)", "eval_set": "split_part(filename, '/', -3)"}
_ATTEMPT = {"run": pa.string(), "generation": pa.int64(), "attempt": pa.int64()}
_JOURNAL = _ATTEMPT | {"event": pa.string(), "time": pa.float64(), "reason": pa.string(), "snapshot": pa.int64()}
_JOURNAL |= dict.fromkeys(("eval_sets", "rejected_ids"), pa.list_(pa.string()))
_JOURNAL |= dict.fromkeys(("decision", "reviewer"), pa.string())
_JOURNAL |= dict.fromkeys(("human_fraction", "deadline"), pa.float64())
_GENERATIONS = (
    _ATTEMPT
    | dict.fromkeys(("candidates", "survivors", "corpus", "human"), pa.int64())
    | dict.fromkeys(("human_fraction", "human_token_fraction"), pa.float64())
    | {
        "contaminated": pa.int64(),
        "tokens": pa.int64(),
        "generated_tokens": pa.int64(),
        "model": pa.string(),
        "snapshot": pa.int64(),
    }
    | {"accepted": pa.bool_(), "seconds": pa.float64(), "filter_rate_alerts": records.FILTER_RATE_ALERTS}
)
_RUNS = dict.fromkeys(("run", "description", "dataset", "policy", "backend", "sampler"), pa.string()) | dict.fromkeys(
    ("num_generations", "seed"), pa.int64()
)
_RUNS |= {"forked_from": pa.string(), "forked_generation": pa.int64()}
_RECIPES = dict.fromkeys(("run", "field", "value"), pa.string())
_LINEAGE = _ATTEMPT | dict.fromkeys(("artifact", "fingerprint", "parent", "parent_fingerprint"), pa.string())

_COMMON = "id, text, origin, source_generation, source, text_hash"
_STORE = """create macro stored(path) as coalesce(getvariable('store') || '/',
    regexp_replace(parse_dirpath(current_setting('temp_directory')), '([*?[])', '[\\1]', 'g') || '/') || path"""
"""Where a catalog file finds the store: a variable, or else the place where DuckDB says that the file itself is, which is
the folder that its temporary files would go to."""


def open_catalog(root: Path, only: Sequence[str] = ()) -> "duckdb.DuckDBPyConnection":
    """A connection with every view over the store at `root`; over the runs named in `only`, if any are.

    Raises:
        HeirloomError: there is no store at `root`.
    """
    # A command that asks nothing neither waits for DuckDB nor hears its complaints at exit.
    import duckdb

    for last in (False, False, True):
        connection = duckdb.connect(config={"python_enable_replacements": "false"})
        connection.execute("set parquet_metadata_cache = true")
        try:
            _fill(connection, scan_store(root, only), lambda part: sql_literal(glob.escape(str(part))))
        except duckdb.IOException:
            # A run was removed between the reading of its manifests and that of its files.
            if last:
                raise
        else:
            break
    return connection


def write_catalog(root: Path, file: Path) -> None:
    """A DuckDB file with every view, which finds the store from where it stands itself; replaces an older one.

    Raises:
        HeirloomError: there is no store at `root`, or no folder for the file.
    """
    import duckdb

    if not file.parent.is_dir():
        raise HeirloomError(f"there is no folder {file.parent} to write {file.name} to")
    listing = scan_store(root)

    def relative(part: Path) -> str:
        return f"stored({sql_literal(glob.escape(os.path.relpath(part, file.absolute().parent)))})"

    with atomic_file(file.absolute()) as hidden, duckdb.connect(hidden) as connection:
        connection.execute(_STORE)
        _fill(connection, listing, relative)


def _fill(connection: "duckdb.DuckDBPyConnection", listing: StoreScan, named: Callable[[Path], str]) -> None:
    found = listing.runs
    columns = {field.name: field.type for field in TOMBSTONES}
    _table(connection, "tombstones", columns, [asdict(one) for one in read_tombstones(listing.root)])
    for view, (schema, folder) in _PER_GENERATION.items():
        for name, accepted_only in ((f"{view}_all_attempts", False), (view, True)):
            files = [named(part) for part in listing.part_paths(folder, accepted_only)]
            _view(connection, name, schema, files, _GENERATION_KEYS)
    for side, schema in _HUMAN.items():
        _view(
            connection,
            side,
            schema,
            [named(part) for part in listing.human_part_paths(f"snapshot=*/{side}")],
            _HUMAN_KEYS,
        )
    for view, (schema, folder) in evaluation.VIEWS.items():
        files = [named(part) for part in listing.human_part_paths(f"eval_sets/*/{folder}")]
        _view(connection, view, schema, files, _EVALUATION_KEYS)
    _table(connection, "journal", _JOURNAL, ({"run": one.run.name, **entry} for one in found for entry in one.journal))
    _table(connection, "generations_all_attempts", _GENERATIONS, (row for one in found for row in _generations(one)))
    connection.execute("create view generations as select * from generations_all_attempts where accepted")
    _table(connection, "runs", _RUNS, (_described(one) for one in found))
    fields = ((one.run.name, *field) for one in found for field in _flat(one.recipe, ""))
    _table(connection, "recipes", _RECIPES, (dict(zip(_RECIPES, field, strict=True)) for field in fields))
    _table(connection, "lineage", _LINEAGE, (row for one in found for row in _edges(one)))
    _records(connection, len({part.parents[1] for part in listing.human_part_paths("snapshot=*/human_train")}))


def _view(
    connection: "duckdb.DuckDBPyConnection", view: str, schema: pa.Schema, files: list[str], keys: Mapping[str, str]
) -> None:
    """One view over files of one kind; a column that files of an older Heirloom lack is null."""
    if not files:
        kinds = {name: pa.string() if name in ("run", "dataset", "eval_set") else pa.int32() for name in keys}
        _table(connection, view, {field.name: field.type for field in schema} | kinds, [])
        return
    source = f"read_parquet([{', '.join(files)}], hive_partitioning = false, filename = true, union_by_name = true)"
    # Only where something was forgotten, and a text could be it: a join is not free.
    hiding = "text_hash" in schema.names and connection.execute("from tombstones limit 1").fetchall()
    less = " anti join tombstones using (text_hash)" if hiding else ""
    told = ", ".join(f"{expression} as {name}" for name, expression in keys.items())
    create = f"create or replace view {view} as select * exclude (filename), {{}}{told} from {source}{less}"
    connection.execute(create.format(""))
    there = {name for (name, *_) in connection.execute(f"describe {view}").fetchall()}
    if set(schema.names) - there:
        empty = connection.from_arrow(schema.empty_table())
        columns = zip(empty.columns, empty.types, strict=True)
        lacking = (f'null::{kind} as "{name}", ' for name, kind in columns if name not in there)
        connection.execute(create.format("".join(lacking)))


def _records(connection: "duckdb.DuckDBPyConnection", snapshots: int) -> None:
    """Every record once: a human record stands in each snapshot since it came, a candidate in its run alone."""
    keys = "null::varchar as run, null::integer as generation"
    human = " union all ".join(
        f"select {_COMMON}, {keys} from {side}" for side in ("human_train", "human_heldout", "eval_records")
    )
    once = "select distinct on (id)" if snapshots > 1 else "select"
    connection.execute(
        f"create view records as {once} * from ({human}) union all select {_COMMON}, run, generation from candidates"
    )


def _table(
    connection: "duckdb.DuckDBPyConnection",
    name: str,
    columns: Mapping[str, pa.DataType],
    rows: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]],
) -> None:
    connection.register("rows", pa.Table.from_pylist(list(rows), schema=pa.schema(list(columns.items()))))
    connection.execute(f"create table {name} as select * from rows")
    connection.unregister("rows")


def _generations(one: ScannedRun) -> Iterator[dict[str, Any]]:
    accepted = one.accepted()
    for attempted, found in sorted(one.attempts.items()):
        if not found:
            continue
        facts = {key: value for manifest in found.values() for key, value in manifest["facts"].items()}
        yield {
            **dict(zip(_ATTEMPT, (one.run.name, *attempted), strict=True)),
            "candidates": found["candidates"]["rows"] if "candidates" in found else 0,
            "model": found["model"]["fingerprint"] if "model" in found else None,
            "accepted": attempted in accepted,
            "seconds": work_seconds(found.values()),
            **{name: facts.get(name) for name in _GENERATIONS if name in facts},
        }


def _described(one: ScannedRun) -> dict[str, Any]:
    return {
        "run": one.run.name,
        "policy": one.recipe["mix"]["policy"],
        "backend": one.recipe["train"]["backend"],
        "sampler": one.recipe["generate"]["sampler"],
        **{name: one.recipe[name] for name in ("description", "dataset", "num_generations", "seed")},
        "forked_from": one.forked_from.get("run"),
        "forked_generation": one.forked_from.get("generation"),
    }


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401  (JSON values)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    else:
        yield path, json.dumps(value)


def _edges(one: ScannedRun) -> Iterator[dict[str, Any]]:
    for attempted, found in sorted(one.attempts.items()):
        for name, manifest in sorted(found.items()):
            made = (one.run.name, *attempted, name, manifest["fingerprint"])
            yield from (dict(zip(_LINEAGE, (*made, *edge), strict=True)) for edge in manifest["parents"].items())


def sql_literal(text: str) -> str:
    """A text as SQL says it."""
    return "'" + text.replace("'", "''") + "'"
