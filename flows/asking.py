"""Commands that ask: SQL over the store, named questions, reports, files for others to ask, and a recipe's future."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows.answers import Format, writer
from flows.options import Set, SiteFile, Store, console
from flows.recipe import load_recipe, load_site

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
    from flows.shell import Asking, converse

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
    from flows.shell import Asking, list_questions
    from storage.questions import wanted

    if not name:
        list_questions()
        return
    wanted(name)
    take = writer(form, out)
    with _left_early():
        Asking(load_site(None, store).opened().store, allow_files=False).ask_by_name(name, arguments or [], take)


@app.command(epilog="Example: `heirloom forecast anchor --set human=letters --keep 95%`")
def forecast(
    recipe: Annotated[str, typer.Argument(help="a TOML file, or the name of a shipped recipe, or of a run")],
    keep: Annotated[str, typer.Option(help="goal: share of words that is to stay")] = "95%",
    seen: Annotated[int, typer.Option(help="goal: of the words that people say so often", min=1)] = 5,
    through: Annotated[int, typer.Option("--for", help="goal: for so many generations", min=1)] = 10,
    picture: Annotated[Path | None, typer.Option(help="PNG file to draw it in")] = None,
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Tell what a recipe will do before anything runs: coverage and drift, the human share that a goal takes, tokens, time."""
    from flows.forecasting import foretell, share_of

    where = load_site(site, store)
    foretell(console, load_recipe(recipe, changes or [], where.store), where, share_of(keep), seen, through, picture)


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


@app.command(epilog="Example: `heirloom catalog`")
def catalog(
    file: Annotated[Path | None, typer.Option(help="where to write it; default catalog.duckdb in the store")] = None,
    store: Store = None,
) -> None:
    """Write every view to a DuckDB file that any DuckDB of this version opens; run it again to bring the file up to date."""
    from storage.catalog import write_catalog

    root = load_site(None, store).opened().store
    file = file or root / "catalog.duckdb"
    write_catalog(root, file)
    console.print(f'{file}: try duckdb "{file}" "from generations"', markup=False, soft_wrap=True)


@app.command(epilog="Example: `heirloom export guarded --generation 5 --to hf`")
def export(
    run: Annotated[str, typer.Argument(help="name of the run")],
    generation: Annotated[int | None, typer.Option(help="whose corpus; default the newest that has one", min=0)] = None,
    to: Annotated[str, typer.Option("--to", help="hf (datasets.load_dataset opens it), jsonl or parquet")] = "hf",
    model: Annotated[bool, typer.Option("--model", help="the model in the place of the corpus")] = False,
    out: Annotated[Path | None, typer.Option(help="folder to write; default RUN-generation-N-KIND here")] = None,
    store: Store = None,
) -> None:
    """Write a corpus to a folder that others open, or a model: with a card that says what it is made of."""
    from storage.export import export as write
    from storage.model_card import export_model

    root = load_site(None, store).opened().store
    folder = export_model(root, run, generation, out) if model else write(root, run, generation, to, out)
    console.print(f"{folder}", markup=False, soft_wrap=True)


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
