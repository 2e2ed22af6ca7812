"""Open a whole store as DuckDB views.

The views are made from the manifests, so unfinished artifacts are not in them. Views by generation show accepted
attempts; the same name with `_all_attempts` shows every attempt. Run, generation and attempt of a row are read from the
path of its file, so that a query about one generation opens only the files of that generation. Nothing here writes to
an artifact.
"""

import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from heirloom.commands import suggest
from heirloom.errors import HeirloomError, one_line
from storage.artifacts import schemas
from storage.artifacts.tombstones import TOMBSTONES, read_tombstones
from storage.datasets import eval_sets
from storage.files import atomic_file
from storage.query.scan import ScannedRun, StoreScan, scan_store
from storage.runs.judgements import read_judgements
from storage.runs.status import stage_seconds, work_seconds

if TYPE_CHECKING:
    import duckdb

ColumnTypes = Mapping[str, pa.DataType]

_VIEWS_BY_GENERATION = {
    "candidates": (schemas.CANDIDATES, "candidates"),
    "decisions": (schemas.DECISIONS, "decisions"),
    "check_results": (schemas.CHECK_RESULTS, "check_results"),
    "heldout_check_results": (schemas.CHECK_RESULTS, "heldout_check_results"),
    "corpus": (schemas.CORPUS, "corpus"),
    "metrics": (schemas.METRICS, "metrics"),
    "gate_results": (schemas.GATE_RESULTS, "verdict"),
    "collapse_tests": (schemas.COLLAPSE_TESTS, "collapse_tests"),
    "forecast": (schemas.FORECAST, "forecast"),
    "eval_samples": (schemas.EVAL_SAMPLES, "eval_samples"),
    "scores": (schemas.SCORES, "scores"),
    "training": (schemas.TRAINING, "model"),
    "pairs": (schemas.PAIRS, "pairs"),
    "excluded_records": (schemas.DECISIONS, "excluded_records"),
    "contamination_report": (schemas.CONTAMINATION_REPORT, "contamination_report"),
    "topics": (schemas.TOPICS, "topics"),
}
"""Schema and artifact folder of each view."""

_VIEWS_BY_SNAPSHOT = {
    "human_train": schemas.HUMAN_RECORDS,
    "human_heldout": schemas.HUMAN_RECORDS,
    "rejected_documents": schemas.REJECTED_DOCUMENTS,
}
"""Schema of each view; the artifact folder has the name of the view."""

# SQL for the columns that come from the path of a file, counted from its end:
# <run>/generation=3/attempt=1/<artifact>/<part>, <dataset>/snapshot=1/<artifact>/<part>,
# <dataset>/eval_sets/<eval set>/<artifact>/<part>.
_GENERATION_PATH_COLUMNS = {
    "run": "string_split(filename, '/')[-5]",
    "generation": "cast(substr(string_split(filename, '/')[-4], 12) as integer)",
    "attempt": "cast(substr(string_split(filename, '/')[-3], 9) as integer)",
}
_SNAPSHOT_PATH_COLUMNS = {
    "dataset": "string_split(filename, '/')[-4]",
    "snapshot": "cast(substr(string_split(filename, '/')[-3], 10) as integer)",
}
_EVAL_SET_PATH_COLUMNS = {"dataset": "split_part(filename, '/', -5)", "eval_set": "split_part(filename, '/', -3)"}

_ATTEMPT_COLUMNS: dict[str, pa.DataType] = {"run": pa.string(), "generation": pa.int64(), "attempt": pa.int64()}
_JOURNAL_COLUMNS = {
    **_ATTEMPT_COLUMNS,
    "event": pa.string(),
    "time": pa.float64(),
    "reason": pa.string(),
    "snapshot": pa.int64(),
    "eval_sets": pa.list_(pa.string()),
    "rejected_ids": pa.list_(pa.string()),
    "decision": pa.string(),
    "reviewer": pa.string(),
    "human_fraction": pa.float64(),
    "deadline": pa.float64(),
}
_JUDGEMENT_COLUMNS = {
    **_ATTEMPT_COLUMNS,
    "id": pa.string(),
    "verdict": pa.string(),
    "reviewer": pa.string(),
    "reason": pa.string(),
    "time": pa.float64(),
}
_GENERATION_COLUMNS = {
    **_ATTEMPT_COLUMNS,
    "candidates": pa.int64(),
    "survivors": pa.int64(),
    "corpus": pa.int64(),
    "human": pa.int64(),
    "human_fraction": pa.float64(),
    "human_token_fraction": pa.float64(),
    "contaminated": pa.int64(),
    "tokens": pa.int64(),
    "generated_tokens": pa.int64(),
    "model": pa.string(),
    "snapshot": pa.int64(),
    "accepted": pa.bool_(),
    "seconds": pa.float64(),
    "generate_seconds": pa.float64(),
    "train_seconds": pa.float64(),
    "measure_seconds": pa.float64(),
    "filter_rate_alerts": schemas.FILTER_RATE_ALERTS,
}
_RUN_COLUMNS = {
    "run": pa.string(),
    "description": pa.string(),
    "dataset": pa.string(),
    "policy": pa.string(),
    "backend": pa.string(),
    "sampler": pa.string(),
    "num_generations": pa.int64(),
    "seed": pa.int64(),
    "forked_from": pa.string(),
    "forked_generation": pa.int64(),
}
_RECIPE_COLUMNS = {"run": pa.string(), "field": pa.string(), "value": pa.string()}
_LINEAGE_COLUMNS = {
    **_ATTEMPT_COLUMNS,
    "artifact": pa.string(),
    "fingerprint": pa.string(),
    "parent": pa.string(),
    "parent_fingerprint": pa.string(),
}

_RECORD_COLUMNS = "id, text, origin, source_generation, source, text_hash"
"""Columns that human and synthetic records have in common."""

_STORED_MACRO = """
create macro stored(path) as
    coalesce(
        getvariable('store') || '/',
        regexp_replace(parse_dirpath(current_setting('temp_directory')), '([*?[])', '[\\1]', 'g') || '/'
    ) || path
"""
"""Absolute path of a file of the store, inside a catalog file: from the variable `store`, or from the folder of the
catalog file itself, which is where DuckDB puts its temporary files. Characters of glob patterns are escaped."""


def open_catalog(root: Path, only: Sequence[str] = ()) -> "duckdb.DuckDBPyConnection":
    """Return a connection with every view over the store at `root`, or over the runs named in `only`.

    Raises:
        HeirloomError: there is no store at `root`, or a file of it cannot be read.
    """
    # Imported here, so that commands without queries do not pay for it.
    import duckdb

    attempts = 3
    for attempt in range(1, attempts + 1):
        connection = duckdb.connect(config={"python_enable_replacements": "false"})
        connection.execute("set parquet_metadata_cache = true")
        builder = _CatalogBuilder(connection, lambda part: sql_literal(glob.escape(str(part))))
        try:
            builder.build(scan_store(root, only))
        except (duckdb.Error, pa.ArrowException, OverflowError) as error:
            # A run that was removed between the scan of its manifests and the reading of its files: scan again.
            if not isinstance(error, duckdb.IOException) or attempt == attempts:
                raise HeirloomError(
                    f"A file of {root} cannot be read: {one_line(error)}. To find it: {suggest('verify')}"
                ) from error
        else:
            break
    return connection


def write_catalog(root: Path, file: Path) -> None:
    """Write a DuckDB file with every view; paths in it are relative to the file. An older file is replaced.

    Raises:
        HeirloomError: there is no store at `root`, or the folder of the file does not exist.
    """
    import duckdb

    if not file.parent.is_dir():
        raise HeirloomError(f"Cannot write {file.name}: the folder {file.parent} does not exist")
    scan = scan_store(root)
    folder = file.absolute().parent

    def relative(part: Path) -> str:
        return f"stored({sql_literal(glob.escape(os.path.relpath(part, folder)))})"

    with atomic_file(file.absolute()) as hidden, duckdb.connect(hidden) as connection:
        connection.execute(_STORED_MACRO)
        _CatalogBuilder(connection, relative).build(scan)


@dataclass(frozen=True)
class _CatalogBuilder:
    """Creates the tables and views of a catalog on one connection."""

    connection: "duckdb.DuckDBPyConnection"
    path_sql: Callable[[Path], str]
    """SQL expression for the path of a part."""

    def build(self, scan: StoreScan) -> None:
        """Create every table and view."""
        # First, since the views hide the texts that have a tombstone.
        tombstone_types = {field.name: field.type for field in TOMBSTONES}
        self._create_table("tombstones", tombstone_types, map(asdict, read_tombstones(scan.root)))
        for view, (schema, folder) in _VIEWS_BY_GENERATION.items():
            all_parts = scan.part_paths(folder, accepted_only=False)
            accepted_parts = scan.part_paths(folder, accepted_only=True)
            self._create_view(f"{view}_all_attempts", schema, all_parts, _GENERATION_PATH_COLUMNS)
            self._create_view(view, schema, accepted_parts, _GENERATION_PATH_COLUMNS)
        for view, schema in _VIEWS_BY_SNAPSHOT.items():
            self._create_view(view, schema, scan.human_part_paths(f"snapshot=*/{view}"), _SNAPSHOT_PATH_COLUMNS)
        for view, (schema, folder) in eval_sets.VIEWS.items():
            parts = scan.human_part_paths(f"eval_sets/*/{folder}")
            self._create_view(view, schema, parts, _EVAL_SET_PATH_COLUMNS)
        self._create_table("journal", _JOURNAL_COLUMNS, _journal_rows(scan.runs))
        self._create_table("judgements", _JUDGEMENT_COLUMNS, _judgement_rows(scan.runs))
        self._create_table("generations_all_attempts", _GENERATION_COLUMNS, _generation_rows(scan.runs))
        self.connection.execute("create view generations as select * from generations_all_attempts where accepted")
        self._create_table("runs", _RUN_COLUMNS, map(_run_row, scan.runs))
        self._create_table("recipes", _RECIPE_COLUMNS, _recipe_rows(scan.runs))
        self._create_table("lineage", _LINEAGE_COLUMNS, _lineage_rows(scan.runs))
        snapshots = {part.parents[1] for part in scan.human_part_paths("snapshot=*/human_train")}
        self._create_records_view(len(snapshots))

    def _create_table(self, name: str, columns: ColumnTypes, rows: Iterable[Mapping[str, object]]) -> None:
        """Create a table from rows; keys that are not in `columns` are left out, absent ones become null."""
        schema = pa.schema(list(columns.items()))
        self.connection.register("rows", pa.Table.from_pylist(list(rows), schema=schema))
        self.connection.execute(f"create table {name} as select * from rows")
        self.connection.unregister("rows")

    def _create_view(
        self, view: str, schema: pa.Schema, parts: Sequence[Path], path_columns: Mapping[str, str]
    ) -> None:
        """Create a view over the parts of one kind; columns of `schema` that no part has become null."""
        if not parts:
            text_columns = ("run", "dataset", "eval_set")
            path_types = {name: pa.string() if name in text_columns else pa.int32() for name in path_columns}
            self._create_table(view, {field.name: field.type for field in schema} | path_types, [])
            return
        paths = ", ".join(map(self.path_sql, parts))
        source = f"read_parquet([{paths}], hive_partitioning = false, filename = true, union_by_name = true)"
        # An anti join costs time in every query, so it is there only if the store has tombstones.
        if "text_hash" in schema.names and self.connection.execute("from tombstones limit 1").fetchall():
            source += " anti join tombstones using (text_hash)"
        columns = ["* exclude (filename)", *(f"{sql} as {name}" for name, sql in path_columns.items())]
        self.connection.execute(f"create or replace view {view} as select {', '.join(columns)} from {source}")
        present = {name for (name, *_) in self.connection.execute(f"describe {view}").fetchall()}
        if missing := self._null_columns(schema, present):
            columns[1:1] = missing
            self.connection.execute(f"create or replace view {view} as select {', '.join(columns)} from {source}")

    def _null_columns(self, schema: pa.Schema, present: set[str]) -> list[str]:
        """Return SQL for a typed null of every column of `schema` that is not in `present`."""
        if not set(schema.names) - present:
            return []
        # DuckDB converts the Arrow types.
        empty = self.connection.from_arrow(schema.empty_table())
        types = zip(empty.columns, empty.types, strict=True)
        return [f'null::{duckdb_type} as "{name}"' for name, duckdb_type in types if name not in present]

    def _create_records_view(self, num_snapshots: int) -> None:
        """Create the view `records` with every human and synthetic record once.

        A human record is in every snapshot since it was ingested, a candidate only in its own run.
        """
        no_run = "null::varchar as run, null::integer as generation"
        human = " union all ".join(
            f"select {_RECORD_COLUMNS}, {no_run} from {view}"
            for view in ("human_train", "human_heldout", "eval_records")
        )
        select = "select distinct on (id)" if num_snapshots > 1 else "select"
        candidates = f"select {_RECORD_COLUMNS}, run, generation from candidates"
        self.connection.execute(f"create view records as {select} * from ({human}) union all {candidates}")


def _journal_rows(runs: Sequence[ScannedRun]) -> Iterator[dict[str, object]]:
    for scanned in runs:
        for entry in scanned.journal:
            yield {"run": scanned.run.name, **entry}


def _judgement_rows(runs: Sequence[ScannedRun]) -> Iterator[dict[str, object]]:
    for scanned in runs:
        for judgement in read_judgements(scanned.run.folder):
            yield {"run": scanned.run.name, **asdict(judgement)}


def _generation_rows(runs: Sequence[ScannedRun]) -> Iterator[dict[str, object]]:
    for scanned in runs:
        accepted = scanned.accepted()
        for attempt_key, manifests in sorted(scanned.attempts.items()):
            if not manifests:
                continue
            generation, attempt = attempt_key
            facts = {key: value for manifest in manifests.values() for key, value in manifest["facts"].items()}
            yield {
                "run": scanned.run.name,
                "generation": generation,
                "attempt": attempt,
                "candidates": manifests["candidates"]["rows"] if "candidates" in manifests else 0,
                "model": manifests["model"]["fingerprint"] if "model" in manifests else None,
                "accepted": attempt_key in accepted,
                "seconds": work_seconds(manifests.values()),
                **{f"{stage}_seconds": seconds for stage, seconds in asdict(stage_seconds(manifests)).items()},
                **{name: facts[name] for name in _GENERATION_COLUMNS if name in facts},
            }


def _run_row(scanned: ScannedRun) -> dict[str, object]:
    recipe = scanned.recipe
    return {
        "run": scanned.run.name,
        "description": _setting(recipe, "description"),
        "dataset": _setting(recipe, "dataset"),
        "policy": _setting(recipe, "mix", "policy"),
        "backend": _setting(recipe, "train", "backend"),
        "sampler": _setting(recipe, "generate", "sampler"),
        "num_generations": _setting(recipe, "num_generations"),
        "seed": _setting(recipe, "seed"),
        "forked_from": scanned.forked_from.get("run"),
        "forked_generation": scanned.forked_from.get("generation"),
    }


def _setting(recipe: Mapping[str, Any], *path: str) -> object:
    """Return a setting of a stored recipe; None if it has none, as a damaged one."""
    value: object = recipe
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _recipe_rows(runs: Sequence[ScannedRun]) -> Iterator[dict[str, str]]:
    for scanned in runs:
        for field, value in _flatten(scanned.recipe, ""):
            yield {"run": scanned.run.name, "field": field, "value": value}


def _flatten(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield dotted path and JSON text of every leaf; lists are leaves."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{path}.{key}" if path else key)
    else:
        yield path, json.dumps(value)


def _lineage_rows(runs: Sequence[ScannedRun]) -> Iterator[dict[str, object]]:
    for scanned in runs:
        for (generation, attempt), manifests in sorted(scanned.attempts.items()):
            for artifact, manifest in sorted(manifests.items()):
                for parent, parent_fingerprint in manifest["parents"].items():
                    yield {
                        "run": scanned.run.name,
                        "generation": generation,
                        "attempt": attempt,
                        "artifact": artifact,
                        "fingerprint": manifest["fingerprint"],
                        "parent": parent,
                        "parent_fingerprint": parent_fingerprint,
                    }


def sql_identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    quoted = name.replace('"', '""')
    return f'"{quoted}"'


def sql_literal(text: str) -> str:
    """Return a text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
