"""Commands that make, plan and report runs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Set, SiteFile, Store
from flows.cli.progress_scope import _watched
from flows.config.loading import load_recipe, load_site
from flows.config.site import Site
from flows.terminal.console import console
from storage.datasets.snapshots import newest_snapshot

app = typer.Typer()


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
    from flows.terminal.forecast import foretell, share_of

    where = load_site(site, store)
    foretell(console, load_recipe(recipe, changes or [], where.store), where, share_of(keep), seen, through, picture)


@app.command(epilog="Example: `heirloom report naive guarded`")
def report(
    runs: Annotated[list[str], typer.Argument(help="names of runs")],
    name: Annotated[str | None, typer.Option(help="name of the report; default the runs' names")] = None,
    store: Store = None,
) -> None:
    """Write a report over runs that exist: one page with pictures."""
    from storage.runs.run import Run
    from tasks.reporting.report import report as write

    where = load_site(None, store).opened()
    for run in runs:
        Run(where.store, run).recipe()
    console.print(str(write(where.store, runs, name or "-".join(runs)) / "report.html"), markup=False)


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
    from flows.terminal.run_summary import tell_ending, tell_opening

    where = _at_least_two(load_site(site, store or ("heirloom-store/demo-quick" if quick else "heirloom-store/demo")))
    recipes = demo_recipes(quick, seed)
    tell_opening(console, recipes, passages)
    with _watched(recipes) as panel:
        folder = flow(recipes, where, human, passages)
    tell_ending(console, where.store, folder, panel.seconds)


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
        from flows.terminal.run_summary import tell_ending
        from storage.runs.run import Run
        from storage.runs.status import state
        from tasks.reporting.report import report as write

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
        from flows.terminal.run_summary import tell_ending

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
    from flows.terminal.dry_run import plan

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
    from flows.terminal.prompt_preview import preview as show

    where = load_site(site, store)
    show(console, load_recipe(recipe, changes or [], where.store), where, count)


def _at_least_two(site: Site) -> Site:
    """Two trainers and two samplers where there are two cores, so that arms run side by side."""
    cores = min(2, os.cpu_count() or 1)
    wider = {"trainers": max(cores, site.resources.trainers), "samplers": max(cores, site.resources.samplers)}
    return site.model_copy(update={"resources": site.resources.model_copy(update=wider)})
