"""Commands that ask: SQL over the store, named questions, reports, files for others to ask, and a recipe's future."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Store
from flows.config.loading import load_site
from flows.terminal.query_output import OutputFormat, result_writer

app = typer.Typer()


As = Annotated[OutputFormat | None, typer.Option("--format", help="how the answer is given; default a table")]


Out = Annotated[Path | None, typer.Option("--out", help="file for the answer; its ending says the format")]


@app.command(
    epilog='Example: `heirloom sql "select generation, origin, count(*) from corpus group by all order by all"`'
)
def sql(
    query: Annotated[
        str, typer.Argument(help="a question in DuckDB's SQL; without one, a shell opens, or a pipe is read")
    ] = "",
    form: As = None,
    out: Out = None,
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="let the question read files outside the store")
    ] = False,
    store: Store = None,
) -> None:
    """Ask the store anything; a question can change nothing."""
    from flows.terminal.sql_shell import SqlSession, run_shell

    take = result_writer(form, out)
    asking = SqlSession(load_site(None, store).synced().store, allow_files)
    if query or not sys.stdin.isatty():
        with _ignore_broken_pipe():
            asking.execute(query or sys.stdin.read(), take)
    else:
        run_shell(asking, Path.home() / ".heirloom_history")


@app.command(epilog="Example: `heirloom query record_history g001-0000000`")
def query(
    name: Annotated[str, typer.Argument(help="name of a question")] = "",
    arguments: Annotated[list[str] | None, typer.Argument(help="what the question is about: a record, or runs")] = None,
    form: As = None,
    out: Out = None,
    store: Store = None,
) -> None:
    """Ask one of the named questions; without a name, list them."""
    from flows.terminal.sql_shell import SqlSession, list_queries
    from storage.query.named_queries import parameters

    if not name:
        list_queries()
        return
    parameters(name)
    take = result_writer(form, out)
    with _ignore_broken_pipe():
        SqlSession(load_site(None, store).synced().store, allow_files=False).execute_named(name, arguments or [], take)


@contextmanager
def _ignore_broken_pipe() -> Iterator[None]:
    """Whoever reads the answer may stop reading, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it closes what nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
