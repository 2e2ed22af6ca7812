"""Commands that ask: SQL over the store, named questions, reports. None of them imports Prefect."""

from typing import Annotated

import typer

from flows.options import Store, console
from flows.recipe import load_site

app = typer.Typer()


@app.command(
    epilog='Example: `heirloom sql "select generation, origin, count(*) from corpus group by all order by all"`'
)
def sql(
    query: Annotated[
        str, typer.Argument(help="a question in DuckDB's SQL; views: candidates, decisions, corpus, metrics, ...")
    ],
    store: Store = None,
) -> None:
    """Ask the store anything."""
    _show(query, store)


@app.command(epilog="Example: `heirloom ask why_dropped`")
def ask(name: Annotated[str, typer.Argument(help="name of a question")] = "", store: Store = None) -> None:
    """Ask one of the named questions; without a name, list them."""
    from storage.catalog import QUESTIONS

    if name not in QUESTIONS:
        raise ValueError(
            (f"there is no question {name!r}; " if name else "") + f"named questions: {', '.join(QUESTIONS)}"
        )
    _show(QUESTIONS[name], store)


@app.command(epilog="Example: `heirloom report naive guarded`")
def report(
    runs: Annotated[list[str], typer.Argument(help="names of runs")],
    name: Annotated[str | None, typer.Option(help="name of the report; default the runs' names")] = None,
    store: Store = None,
) -> None:
    """Write a report over runs that exist: one page with pictures."""
    from storage.run import Run
    from tasks.report import report as write

    where = load_site(None, store).opened()
    for run in runs:
        Run(where.store, run).recipe()
    console.print(str(write(where.store, runs, name or "-".join(runs)) / "report.html"), markup=False)


def _show(query: str, store: str | None) -> None:
    import duckdb

    from storage.catalog import open_catalog

    catalog = open_catalog(load_site(None, store).opened().store)
    try:
        found = catalog.sql(query)
        if found is not None:
            found.show(max_rows=200, max_width=max(80, console.width))
    except duckdb.Error as error:
        raise ValueError(f"DuckDB says: {error}") from error
