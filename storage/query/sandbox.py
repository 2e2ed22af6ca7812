"""Run any SQL on a catalog read-only.

Three barriers: a statement is accepted only if its syntax tree contains nothing but reading nodes, since DuckDB can
write a file even from a `with` clause; DuckDB opens no file outside the store; its settings are locked and it loads no
extension.
"""

import glob
import json
import re
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from heirloom.errors import HeirloomError, one_line
from storage.query.catalog import open_catalog

if TYPE_CHECKING:
    import duckdb

Result = TypeVar("Result")
_OUT_OF_MEMORY = "There is too little memory for the result; add a LIMIT, or write it with --out FILE.parquet."
_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_READERS = {
    *("range", "generate_series", "unnest", "repeat", "json_each", "json_tree", "query_table", "glob"),
    *("read_parquet", "parquet_scan", "read_csv", "read_csv_auto", "read_text", "read_blob", "sniff_csv"),
    *("read_json", "read_json_auto", "read_json_objects", "read_ndjson", "read_ndjson_auto", "read_ndjson_objects"),
    *("parquet_metadata", "parquet_file_metadata", "parquet_kv_metadata", "parquet_schema"),
    *("duckdb_columns", "duckdb_functions", "duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views"),
}
"""Table functions that only read. Others execute a text as SQL, or have effects beyond the query."""
_EXPLAIN = re.compile(r"\s*explain\s+(?:analy[sz]e\s+)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class QueryLimits:
    """What one query may use."""

    memory: str = "50%"
    """Memory before DuckDB writes intermediate results to its temporary folder: `4GB`, or a share of this machine's."""
    temp_size: str = "20GB"
    """Size of the temporary folder."""
    seconds: float = 600
    """Time after which a query is stopped; 0 for none."""


_DEFAULT_LIMITS = QueryLimits()


def open_readonly(
    root: Path, allow_files: bool = False, limits: QueryLimits = _DEFAULT_LIMITS
) -> "duckdb.DuckDBPyConnection":
    """Return the catalog of a store for read-only queries; `allow_files` lets them read files outside it too.

    Raises:
        HeirloomError: there is no store at `root`, or a limit is none.
    """
    import duckdb

    catalog = open_catalog(root)
    # DuckDB's default is the working directory, where a query would leave a folder behind. This one is readable by this
    # user only, since queries may read it too, and goes with the connection.
    folder = tempfile.TemporaryDirectory(prefix="heirloom-", ignore_cleanup_errors=True)
    weakref.finalize(catalog, folder.cleanup)
    catalog.execute("set temp_directory = ?", [folder.name])
    for setting, limit in (("memory_limit", limits.memory), ("max_temp_directory_size", limits.temp_size)):
        try:
            catalog.execute(f"set {setting} = ?", [limit])
        except duckdb.Error as error:
            raise HeirloomError(f"{limit!r} is no limit of memory: write 4GB or 50%. {one_line(error)}") from error
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions"):
        catalog.execute(f"set {setting} = false")
    if not allow_files:
        store = str(root.absolute())
        # Paths with brackets or stars are passed to DuckDB as escaped patterns, which it compares literally with this
        # list.
        catalog.execute("set allowed_directories = ?", [[store, glob.escape(store)]])
        catalog.execute("set enable_external_access = false")
    catalog.execute("set lock_configuration = true")
    return catalog


def statements(catalog: "duckdb.DuckDBPyConnection", text: str) -> list[str]:
    """Split a text into its statements and check that each of them only reads.

    Raises:
        HeirloomError: one of them does more than read, there is none, or the text is not SQL.
    """
    import duckdb

    try:
        extracted = duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise HeirloomError(f"DuckDB: {error}") from error
    if not extracted:
        raise HeirloomError("Found no SQL statement. Example: select * from generations")
    for statement in extracted:
        kind = statement.type.name
        query = _EXPLAIN.sub("", statement.query, count=1) if kind == "EXPLAIN" else statement.query
        ((tree,),) = catalog.execute("select json_serialize_sql(?)", [query]).fetchall()
        for node in _nodes(json.loads(tree)):
            _check_node(node, kind)
    return [_without_terminator(statement.query) for statement in extracted]


def _without_terminator(statement: str) -> str:
    """Return a statement without its semicolon and the comments behind it, which DuckDB refuses inside a subquery."""
    import duckdb

    encoded = statement.encode()
    end = len(encoded)
    for start, kind in reversed(duckdb.tokenize(statement)):
        if encoded.startswith(b";", start):
            end = start
        elif kind != duckdb.token_type.comment:
            break
    return encoded[:end].decode()


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Yield every object in a syntax tree."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _check_node(node: Mapping[str, Any], kind: str) -> None:
    """Raise unless the node is a reading one. An allow-list, since a later DuckDB may add nodes that write."""
    node_type = str(node.get("type", ""))
    if node.get("error") or (node_type.endswith("_NODE") and node_type not in _READING):
        raise HeirloomError(_refusal(kind))
    if node_type == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"]).lower()
        if name not in _READERS:
            raise HeirloomError(f"The function {name} is not allowed: it can do more than read")


def _refusal(kind: str) -> str:
    if kind == "MULTI":
        return "PIVOT must list its columns here, since looking them up would create a type: pivot ... on ... in (...)"
    statement = (
        "this statement, which changes something, is"
        if kind in ("SELECT", "EXPLAIN")
        else f"{kind.replace('_', ' ')} statements are"
    )
    return (
        f"The store is read-only: {statement} not allowed. "
        "Allowed: SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN. To save a result use --format with --out."
    )


def execute(
    catalog: "duckdb.DuckDBPyConnection",
    statement: str,
    arguments: Mapping[str, str],
    take: Callable[["duckdb.DuckDBPyRelation"], Result],
    seconds: float = _DEFAULT_LIMITS.seconds,
) -> Result:
    """Run a query and pass its relation to `take`; Ctrl-C stops the query at once and leaves the catalog usable.

    Raises:
        HeirloomError: DuckDB reported an error, or the query took longer than `seconds`, if they are not 0.
        KeyboardInterrupt: the query was interrupted.
    """
    import duckdb

    # Python handles signals in the main thread only, and not while DuckDB works in it: the query runs in another
    # thread.
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: take(catalog.sql(statement, params=dict(arguments) or None)))
        try:
            return future.result(timeout=seconds or None)
        except KeyboardInterrupt:
            _stop(catalog, future)
            raise
        except TimeoutError as error:
            _stop(catalog, future)
            raise HeirloomError(
                f"The query was stopped after {seconds:g} s. Pass --timeout SECONDS; 0 is no limit."
            ) from error
        except MemoryError as error:
            raise HeirloomError(f"{_OUT_OF_MEMORY} {one_line(error)}") from error
        except duckdb.PermissionException as error:
            raise HeirloomError(
                f"{str(error).partition(' - ')[0]}. Queries read only the store; pass --allow-files to read other "
                "files."
            ) from error
        except duckdb.IOException as error:
            raise HeirloomError(f"DuckDB: {error}. If a run was removed meanwhile, run the query again.") from error
        except duckdb.Error as error:
            raise HeirloomError(f"DuckDB: {error}") from error
        except OSError as error:
            # Arrow reports an error of DuckDB after the first batch so; an error of the system has a number.
            if error.errno is not None:
                raise
            raise HeirloomError(f"DuckDB: {error}") from error


def _stop(catalog: "duckdb.DuckDBPyConnection", future: "Future[Result]") -> None:
    # An interrupt before the query has started has no effect, so it is repeated.
    while not future.done():
        catalog.interrupt()
        wait([future], timeout=0.05)
