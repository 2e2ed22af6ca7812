"""Commands that query the store: SQL, named queries, and a DuckDB file for other tools."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.help import command
from flows.cli.options import Store
from flows.terminal.output_format import OutputFormat

app = typer.Typer()

Format = Annotated[
    OutputFormat | None,
    typer.Option("--format", help="Format of the result. Default: by the ending of --out, else a table."),
]

Out = Annotated[Path | None, typer.Option("--out", help="File for the result; an existing file is not overwritten.")]

Spreadsheet = Annotated[
    bool,
    typer.Option(
        "--spreadsheet",
        help="In CSV, put an apostrophe before texts that a spreadsheet would calculate (= + - @). Without it CSV "
        "holds the texts as they are: do not open those of strangers in a spreadsheet.",
    ),
]


@command(
    app,
    panel="Query",
    example="heirloom query\nheirloom query record_history g001-0000000\nheirloom query collapse_curve --format csv",
)
def query(
    name: Annotated[str, typer.Argument(help="Name of the query. Default: list all of them.")] = "",
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Arguments of the query, as the list shows them: records or runs.")
    ] = None,
    output_format: Format = None,
    out: Out = None,
    spreadsheet: Spreadsheet = False,
    store: Store = None,
) -> None:
    """Run a named query; without a name, list all named queries."""
    from flows.config.loading import load_site
    from flows.terminal.query_output import result_writer
    from flows.terminal.sql_shell import SqlSession, list_queries
    from storage.query.named_queries import parameters

    if not name:
        list_queries()
        return
    parameters(name)  # reports an unknown name before the store is opened
    writer = result_writer(output_format, out, spreadsheet)
    with _ignore_broken_pipe():
        session = SqlSession(load_site(None, store).synced().store, allow_files=False)
        session.execute_named(name, arguments or [], writer)


@command(
    app,
    panel="Query",
    example='heirloom sql "select generation, origin, count(*) from corpus group by all order by all"',
)
def sql(
    statement: Annotated[
        str,
        typer.Argument(metavar="[SQL]", help="A statement in DuckDB's SQL. Default: read a pipe, or open a shell."),
    ] = "",
    output_format: Format = None,
    out: Out = None,
    spreadsheet: Spreadsheet = False,
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="Allow statements to read files outside the store.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(help="Seconds after which a statement is stopped; 0 for never.", min=0)
    ] = 600,
    memory: Annotated[
        str, typer.Option(help="Memory of a statement before it uses temporary files: 4GB, or a share such as 50%.")
    ] = "50%",
    temp_size: Annotated[str, typer.Option(help="Maximum size of these temporary files.")] = "20GB",
    store: Store = None,
) -> None:
    """Query the store with SQL. The store is opened read-only."""
    from flows.config.loading import load_site
    from flows.terminal.query_output import result_writer
    from flows.terminal.sql_shell import SqlSession, run_shell
    from storage.query.sandbox import QueryLimits

    writer = result_writer(output_format, out, spreadsheet)
    limits = QueryLimits(memory=memory, temp_size=temp_size, seconds=timeout)
    session = SqlSession(load_site(None, store).synced().store, allow_files, limits)
    if statement or not sys.stdin.isatty():
        with _ignore_broken_pipe():
            session.execute(statement or sys.stdin.read(), writer)
    else:
        run_shell(session, Path.home() / ".heirloom_history")


@command(app, panel="Query", example="heirloom catalog\nheirloom catalog --file /tmp/store.duckdb")
def catalog(
    file: Annotated[Path | None, typer.Option(help="File to write. Default: catalog.duckdb in the store.")] = None,
    store: Store = None,
) -> None:
    """Write all views to a DuckDB file for other tools. Run it again to update the file."""
    from flows.config.loading import load_site
    from flows.terminal.console import console
    from storage.query.catalog import write_catalog

    root = load_site(None, store).synced().store
    file = file or root / "catalog.duckdb"
    write_catalog(root, file)
    console.print(f'Wrote {file}. Open it with: duckdb "{file}" "from generations"', markup=False, soft_wrap=True)


@contextmanager
def _ignore_broken_pipe() -> Iterator[None]:
    """Exit quietly if the reader of standard output closes it early, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes standard output once more at exit, which would print the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
