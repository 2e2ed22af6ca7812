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
from flows.terminal.query_output import Format, writer

app = typer.Typer()


As = Annotated[Format | None, typer.Option("--format", help="how the answer is given; default a table")]


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
    from flows.terminal.sql_shell import Asking, converse

    take = writer(form, out)
    asking = Asking(load_site(None, store).opened().store, allow_files)
    if query or not sys.stdin.isatty():
        with _left_early():
            asking.ask(query or sys.stdin.read(), take)
    else:
        converse(asking, Path.home() / ".heirloom_history")


@app.command(epilog="Example: `heirloom ask life_of g001-0000000`")
def ask(
    name: Annotated[str, typer.Argument(help="name of a question")] = "",
    arguments: Annotated[list[str] | None, typer.Argument(help="what the question is about: a record, or runs")] = None,
    form: As = None,
    out: Out = None,
    store: Store = None,
) -> None:
    """Ask one of the named questions; without a name, list them."""
    from flows.terminal.sql_shell import Asking, list_questions
    from storage.query.named_queries import wanted

    if not name:
        list_questions()
        return
    wanted(name)
    take = writer(form, out)
    with _left_early():
        Asking(load_site(None, store).opened().store, allow_files=False).ask_by_name(name, arguments or [], take)


@contextmanager
def _left_early() -> Iterator[None]:
    """Whoever reads the answer may stop reading, as `head` does."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it closes what nobody reads.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
