"""The command line, and the commands that make something: a command has the name of its flow.

A mistake of the user's ends with one sentence and exit code 2. `sql` and `check` do not import Prefect.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from flows import asking, curating, keeping, operating, theory
from flows.options import Set, SiteFile, Store, console
from flows.recipe import Recipe, Site, explain, load_recipe, load_site
from flows.surroundings import prefect_server, quiet_libraries
from storage.run import newest_snapshot
from tasks.backends.worker import WorkerError

app = typer.Typer(
    help="Synthetic-data loops that survive their own output.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


def main() -> None:
    """Run a command; turn the user's mistakes into one sentence."""
    quiet_libraries()
    try:
        # What a command leaves with by typer.Exit is answered here, not raised.
        if code := app(standalone_mode=False):
            sys.exit(code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; the same command goes on from here", 130)
    except ValidationError as error:
        _fail(explain(error), 2)
    except ValueError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 2)
    except WorkerError as error:
        _fail(str(error), 1)
    except Exception as error:
        # What Typer finds wrong with the words of a command explains itself.
        explained = getattr(error, "format_message", None)
        if explained is None:
            raise
        if said := explained():
            _fail(f"{said.rstrip('.')}; see heirloom --help", 2)
        sys.exit(0)


@app.command(epilog="Example: `heirloom demo --quick`")
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="count words instead of training; no torch, no vLLM, under a minute")
    ] = False,
    human: Annotated[
        str, typer.Option("--human", help="your own text: a file or a folder; default is Python's own documentation")
    ] = "python-docs",
    passages: Annotated[int, typer.Option(help="human passages to learn from", min=50)] = 400,
    seed: Annotated[int, typer.Option(help="all dice follow from it", min=0)] = 0,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Show collapse, and no collapse, on human text: two loops side by side in one picture."""
    from flows.demo import demo as flow
    from flows.demo import demo_recipes
    from flows.story import tell_ending, tell_opening

    where = _at_least_two(load_site(site, store or ("heirloom-store/demo-quick" if quick else "heirloom-store/demo")))
    recipes = demo_recipes(quick, seed)
    tell_opening(console, recipes, passages)
    with _watched(recipes) as panel:
        folder = flow(recipes, where, human, passages)
    tell_ending(console, where.store, folder, panel.seconds)


@app.command(epilog="Example: `heirloom ingest letters.jsonl --name letters --column body`")
def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="files, folders or patterns (JSONL, CSV, TSV, Parquet, text, Markdown; also .gz, .zst), hf:NAME, or python-docs"
        ),
    ],
    name: Annotated[str, typer.Option(help="name of the human text")],
    column: Annotated[str, typer.Option(help="column that holds the text, or a conversation")] = "text",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="change one ingest setting, as key=value; may be repeated")
    ] = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Take in human text: drop what repeats, hold a part out for ever, keep the rest as the reserve."""
    from curation.splitting import IngestSettings
    from flows.recipe import overridden

    chosen = IngestSettings.model_validate(overridden({"column": column}, settings or []))
    where = load_site(site, store)
    with _watched([]):
        from flows.ingest import ingest as flow
        from flows.ingest import reasons

        counts = flow(sources, name, chosen, where)
    console.print(
        f"[bold]{name}[/]: {counts['reserve']:,} records in the reserve, {counts['heldout']:,} held out, {counts['set_aside']:,} set aside"
    )
    for reason, count in reasons(where, name).items():
        console.print(f"  {count:>12,} {reason}", markup=False)
    console.print('why: heirloom sql "select stage, reason, count(*) from set_aside group by all"', markup=False)


@app.command(epilog="Example: `heirloom withhold exam.jsonl --human letters --name exam`")
def withhold(
    sources: Annotated[
        list[str], typer.Argument(help="files or folders (JSONL, CSV, TSV, Parquet, text, Markdown), or python-docs")
    ],
    human: Annotated[str, typer.Option(help="name of the human text that it is kept out of")],
    name: Annotated[str, typer.Option(help="name of the evaluation set")],
    column: Annotated[str, typer.Option(help="column that holds the text")] = "text",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="change one setting, as key=value; may be repeated")
    ] = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Add an evaluation set: kept out of all that comes, and held against all that is there."""
    from curation.splitting import WithholdSettings
    from flows.recipe import overridden

    chosen, where = (
        WithholdSettings.model_validate(overridden({"column": column}, settings or [])),
        load_site(site, store),
    )
    with _watched([]):
        from flows.story import tell_met
        from flows.withhold import withhold as flow

        counts = flow(sources, human, name, chosen, where)
    console.print(f"[bold]{name}[/]: {counts['records']:,} records withheld, {counts['set_aside']:,} set aside")
    tell_met(console, where.store, human, name)


@app.command(epilog="Example: `heirloom evolve anchor --set generations=3`")
def evolve(
    recipe: Annotated[str, typer.Argument(help="a TOML file, or the name of a shipped recipe, or of a run")],
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Run a recipe from where it stands to its last generation; what is finished is not made again."""
    where = load_site(site, store)
    chosen = load_recipe(recipe, changes or [], where.store)
    newest_snapshot(where.opened().store, chosen.human)  # a mistake is told before anything begins
    with _watched([chosen]) as panel:
        from flows.evolve import evolve as flow
        from flows.story import tell_ending
        from storage.run import Run
        from storage.standing import state
        from tasks.report import report as write

        flow(chosen, where)
    tell_ending(console, where.store, write(where.store, [chosen.name], chosen.name), panel.seconds)
    if (ended := state(Run(where.store, chosen.name))).startswith("stopped"):
        console.print(f"[red]{chosen.name}[/] {ended}", soft_wrap=True)


@app.command(epilog="Example: `heirloom compare replace anchor --set generations=3`")
def compare(
    recipes: Annotated[list[str], typer.Argument(help="TOML files, or names of shipped recipes, or of runs")],
    name: Annotated[str, typer.Option(help="name of the report")] = "compare",
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Run several recipes on the same human text, at the same time, and write one report."""
    where = _at_least_two(load_site(site, store))
    chosen = [load_recipe(recipe, changes or [], where.store) for recipe in recipes]
    with _watched(chosen) as panel:
        from flows.compare import compare as flow
        from flows.story import tell_ending

        folder = flow(chosen, where, name)
    tell_ending(console, where.store, folder, panel.seconds)


@app.command(epilog="Example: `heirloom check anchor --set mix.policy=replace`")
def check(
    recipe: Annotated[str, typer.Argument(help="a TOML file, or the name of a shipped recipe, or of a run")],
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Say what a run would do, without doing it: what is finished, what would be made, and with which settings."""
    from flows.plan import plan

    where = load_site(site, store)
    plan(console, load_recipe(recipe, changes or [], where.store), where)


@app.command(epilog="Example: `heirloom preview anchor --set prompts.program=rephrase`")
def preview(
    recipe: Annotated[str, typer.Argument(help="a TOML file, or the name of a shipped recipe, or of a run")],
    count: Annotated[int, typer.Option(help="prompts to show whole", min=0)] = 3,
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Show what a model would be asked: prompts as they would be, and how many of each cell of a grid."""
    from flows.preview import preview as show

    where = load_site(site, store)
    show(console, load_recipe(recipe, changes or [], where.store), where, count)


for more in (curating, asking, keeping, operating):
    app.registered_commands += more.app.registered_commands
app.add_typer(theory.app, name="theory")


def _at_least_two(site: Site) -> Site:
    """Two trainers and two samplers where there are two cores, so that arms run side by side."""
    cores = min(2, os.cpu_count() or 1)
    wider = {"trainers": max(cores, site.resources.trainers), "samplers": max(cores, site.resources.samplers)}
    return site.model_copy(update={"resources": site.resources.model_copy(update=wider)})


@contextmanager
def _watched(recipes: list[Recipe]) -> Iterator[Any]:
    """A panel, and a Prefect server of its own where none is set; flows are imported within, while that begins."""
    from flows.panel import Panel

    with Panel(console, {recipe.name: recipe.generations for recipe in recipes}) as panel, prefect_server():
        yield panel


def _fail(sentence: str, code: int) -> None:
    Console(stderr=True, highlight=False).print(f"[bold red]heirloom:[/] {escape(sentence)}", soft_wrap=True)
    sys.exit(code)
