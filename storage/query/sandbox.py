"""A catalog that can be asked anything and can change nothing.

Three walls: a statement is let in only if its syntax tree holds nothing but reading, because DuckDB lets even a `with` clause
write a file; DuckDB itself opens no file outside the store; its settings are locked, and it loads no extension.
"""

import glob
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from heirloom.errors import HeirloomError
from storage.query.catalog import open_catalog

if TYPE_CHECKING:
    import duckdb

Result = TypeVar("Result")
_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_READERS = {
    *("range", "generate_series", "unnest", "repeat", "json_each", "json_tree", "query_table", "glob"),
    *("read_parquet", "parquet_scan", "read_csv", "read_csv_auto", "read_text", "read_blob", "sniff_csv"),
    *("read_json", "read_json_auto", "read_json_objects", "read_ndjson", "read_ndjson_auto", "read_ndjson_objects"),
    *("parquet_metadata", "parquet_file_metadata", "parquet_kv_metadata", "parquet_schema"),
    *("duckdb_columns", "duckdb_functions", "duckdb_settings", "duckdb_tables", "duckdb_types", "duckdb_views"),
}
"""Table functions that only read. Others execute what they are given as text, or reach beyond the query."""
_EXPLAIN = re.compile(r"\s*explain\s+(?:analy[sz]e\s+)?", re.IGNORECASE)


def open_readonly(root: Path, allow_files: bool = False) -> "duckdb.DuckDBPyConnection":
    """The catalog of a store for anybody's questions; `allow_files` lets them read other files too.

    Raises:
        HeirloomError: there is no store at `root`.
    """
    catalog = open_catalog(root)
    # Beside the working directory, where DuckDB would put it, a question would leave a folder.
    catalog.execute("set temp_directory = ?", [os.path.join(tempfile.gettempdir(), f"heirloom-{os.getpid()}")])  # noqa: PTH118
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions"):
        catalog.execute(f"set {setting} = false")
    if not allow_files:
        folder = str(root.absolute())
        # A path with brackets or stars in it is told to DuckDB as a pattern, which is held against this list as it stands.
        catalog.execute("set allowed_directories = ?", [[folder, glob.escape(folder)]])
        catalog.execute("set enable_external_access = false")
    catalog.execute("set lock_configuration = true")
    return catalog


def statements(catalog: "duckdb.DuckDBPyConnection", text: str) -> list[str]:
    """The statements of a text, each known to read only.

    Raises:
        HeirloomError: one of them does anything else, none is there, or it is not SQL.
    """
    import duckdb

    try:
        found = duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise HeirloomError(f"DuckDB says: {error}") from error
    if not found:
        raise HeirloomError("there is no question in this; write one in SQL, such as: select * from generations")
    for statement in found:
        kind = statement.type.name
        asked = _EXPLAIN.sub("", statement.query, count=1) if kind == "EXPLAIN" else statement.query
        ((tree,),) = catalog.execute("select json_serialize_sql(?)", [asked]).fetchall()
        for part in _parts(json.loads(tree)):
            _refuse(part, kind)
    return [statement.query for statement in found]


def _parts(tree: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  (JSON values)
    """Every object in a syntax tree."""
    if isinstance(tree, dict):
        yield tree
    for inner in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _parts(inner)


def _refuse(part: Mapping[str, Any], kind: str) -> None:
    """Refuse what does anything but read: by what is known to read, since the next DuckDB may bring more that does not."""
    what = str(part.get("type", ""))
    if part.get("error") or (what.endswith("_NODE") and what not in _READING):
        raise HeirloomError(_refusal(kind))
    if what == "TABLE_FUNCTION" and (name := str(part["function"]["function_name"]).lower()) not in _READERS:
        raise HeirloomError(f"the function {name} is not let in: it can do more than read")


def _refusal(kind: str) -> str:
    if kind == "MULTI":
        return "a PIVOT must say its columns here, because finding them makes a type: pivot ... on ... in (...)"
    what = "a statement that changes something" if kind in ("SELECT", "EXPLAIN") else kind.replace("_", " ")
    return (
        f"the store is only asked, and this is {what}; SELECT, FROM, WITH, DESCRIBE, SUMMARIZE, SHOW and EXPLAIN are let in, "
        "and --format with --out keeps an answer"
    )


def execute(
    catalog: "duckdb.DuckDBPyConnection",
    statement: str,
    arguments: Mapping[str, Any],
    take: Callable[["duckdb.DuckDBPyRelation"], Result],
) -> Result:
    """Ask, and let `take` take the answer; Ctrl-C stops the query at once and leaves the catalog usable.

    Raises:
        HeirloomError: DuckDB cannot answer; the message says why, and what to do where that is known.
        KeyboardInterrupt: the query was stopped.
    """
    import duckdb

    # DuckDB does not look up from its work for a signal; this thread does, while that one works.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: take(catalog.sql(statement, params=dict(arguments) or None)))
        try:
            return asked.result()
        except KeyboardInterrupt:
            # A query that has not begun yet does not hear it, and is told again.
            while not asked.done():
                catalog.interrupt()
                wait([asked], timeout=0.05)
            raise
        except duckdb.PermissionException as error:
            raise HeirloomError(
                f"{str(error).partition(' - ')[0]}; a question reads the store alone, or with --allow-files any file"
            ) from error
        except duckdb.IOException as error:
            raise HeirloomError(f"DuckDB says: {error}; if a run was removed meanwhile, ask again") from error
        except duckdb.Error as error:
            raise HeirloomError(f"DuckDB says: {error}") from error
