"""Named queries over the catalog: one file each in `queries/`, with a description and its parameters as a header.

A query reads the column `text` only if its answer shows texts, so the others stay fast on large stores. Header of a
file:

    -- What the query answers, in one sentence.
    -- $record: id of a record, human or synthetic
"""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from heirloom.commands import suggest
from heirloom.errors import HeirloomError, did_you_mean

if TYPE_CHECKING:
    import duckdb


def _load_queries() -> dict[str, str]:
    sql_files = sorted((file for file in files(__package__).joinpath("queries").iterdir()), key=lambda file: file.name)
    return {
        file.name.removesuffix(".sql"): file.read_text(encoding="utf-8")
        for file in sql_files
        if file.name.endswith(".sql")
    }


QUERIES = _load_queries()
"""SQL of each query, with its header, by name."""

_PARAMETER = re.compile(r"^-- \$(\w+): ", re.MULTILINE)

_LOOKUPS = {
    "record": """select true from (
        select id from human_train union all select id from human_heldout union all select id from eval_records
        union all select id from rejected_documents union all select id from candidates_all_attempts)
        where id = split_part($value, '/', -1)
        and (not contains($value, '/') or split_part($value, '/', 1) in (from (select run from runs))) limit 1""",
    "run": "select true from runs where run = $value",
}
"""Query that returns a row if an argument of this kind exists in the store."""


def parameters(name: str) -> list[str]:
    """Return the parameters of a query, in the order in which the command line takes them.

    Raises:
        HeirloomError: there is no query of this name.
    """
    if name not in QUERIES:
        reason = f"There is no named query {name!r}.{did_you_mean(name, QUERIES)} " if name else ""
        raise HeirloomError(f"{reason}Named queries: {', '.join(QUERIES)}")
    return _PARAMETER.findall(QUERIES[name])


def description(name: str) -> str:
    """Return the one-sentence description of a query."""
    return QUERIES[name].partition("\n")[0].removeprefix("-- ")


def bind(catalog: "duckdb.DuckDBPyConnection", name: str, arguments: Sequence[str]) -> dict[str, str]:
    """Return the arguments of a query by parameter name.

    Raises:
        HeirloomError: the number of arguments is wrong, or one names no record or run of this store.
    """
    names = parameters(name)
    if len(arguments) != len(names):
        usage = [name, *(parameter.upper() for parameter in names)]
        expected = f"{len(names) or 'no'} argument{'s' * (len(names) != 1)}"
        raise HeirloomError(f"{name} takes {expected}, found {len(arguments)}. Usage: {suggest('query', *usage)}")
    for parameter, value in zip(names, arguments, strict=True):
        kind = parameter.rpartition("_")[2]
        if not catalog.execute(_LOOKUPS[kind], {"value": value}).fetchall():
            raise HeirloomError(f"There is no {kind} {value!r} in this store.{_hint(catalog, kind, value)}")
        if kind == "record":
            _require_one_record(catalog, name, value)
    return dict(zip(names, arguments, strict=True))


def _require_one_record(catalog: "duckdb.DuckDBPyConnection", name: str, record: str) -> None:
    """Check that an id names one text: runs number their candidates alike, so ids of candidates are unique per run."""
    if "/" in record:
        return
    found = catalog.execute(
        "select distinct run from candidates_all_attempts where id = $id order by run", {"id": record}
    )
    runs = [run for (run,) in found.fetchall()]
    if len(runs) > 1:
        raise HeirloomError(
            f"{record!r} is the id of a different record in each of {len(runs)} runs: {', '.join(runs)}. "
            f"Name the run too: {suggest('query', name, f'{runs[0]}/{record}')}"
        )


def _hint(catalog: "duckdb.DuckDBPyConnection", kind: str, value: str) -> str:
    if kind == "run":
        names = [name for (name,) in catalog.execute("select run from runs").fetchall()]
        return f"{did_you_mean(value, names)} Runs: {', '.join(names) or 'none'}"
    return f" To list ids: {suggest('sql', 'select id, source from records limit 20')}"
