"""Commands that make, plan and report runs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Set, SiteFile, Store
from flows.cli.progress_scope import _with_progress
from flows.config.loading import load_recipe, load_site
from flows.config.site import Site
from flows.terminal.console import console
from storage.datasets.snapshots import newest_snapshot

app = typer.Typer()


@app.command(epilog="Example: `heirloom forecast anchor --set dataset=letters --min-coverage 0.95`")
def forecast(
    recipe: Annotated[str, typer.Argument(help="a TOML file, or the name of a shipped recipe, or of a run")],
    min_coverage: Annotated[str, typer.Option(help="goal: share of words that is to stay")] = "95%",
    word_count: Annotated[int, typer.Option(help="goal: of the words that people say so often", min=1)] = 5,
    generations: Annotated[int, typer.Option("--generations", help="goal: for so many generations", min=1)] = 10,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw it in")] = None,
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Tell what a recipe will do before anything runs: coverage and drift, the human share that a goal takes, tokens, time."""
    from flows.terminal.forecast import parse_share, print_forecast

    where = load_site(site, store)
    print_forecast(
        console,
        load_recipe(recipe, changes or [], where.store),
        where,
        parse_share(min_coverage),
        word_count,
        generations,
        plot,
    )


@app.command(epilog="Example: `heirloom report naive guarded`")
def report(
    runs: Annotated[list[str], typer.Argument(help="names of runs")],
    name: Annotated[str | None, typer.Option(help="name of the report; default the runs' names")] = None,
    store: Store = None,
) -> None:
    """Write a report over runs that exist: one page with pictures."""
    from storage.runs.run import Run
    from tasks.reporting.report import report as write

    where = load_site(None, store).synced()
    for run in runs:
        Run(where.store, run).recipe()
    console.print(str(write(where.store, runs, name or "-".join(runs)) / "report.html"), markup=False)


@app.command(epilog="Example: `heirloom demo --quick`")
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="count words instead of training; no torch, no vLLM, under a minute")
    ] = False,
    source: Annotated[
        str, typer.Option("--source", help="your own text: a file or a folder; default is Python's own documentation")
    ] = "python-docs",
    passages: Annotated[int, typer.Option(help="human passages to learn from", min=50)] = 400,
    seed: Annotated[int, typer.Option(help="all dice follow from it", min=0)] = 0,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Show collapse, and no collapse, on human text: two loops side by side in one picture."""
    from flows.demo import demo as flow
    from flows.demo import demo_recipes
    from flows.terminal.run_summary import print_start, print_summary

    where = _two_workers(load_site(site, store or ("heirloom-store/demo-quick" if quick else "heirloom-store/demo")))
    recipes = demo_recipes(quick, seed)
    print_start(console, recipes, passages)
    with _with_progress(recipes) as panel:
        folder = flow(recipes, where, source, passages)
    print_summary(console, where.store, folder, panel.seconds)


@app.command(epilog="Example: `heirloom run anchor --set num_generations=3`")
def run(
    recipe: Annotated[str, typer.Argument(help="a TOML file, or the name of a shipped recipe, or of a run")],
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Run a recipe from where it stands to its last generation; what is finished is not made again."""
    where = load_site(site, store)
    chosen = load_recipe(recipe, changes or [], where.store)
    newest_snapshot(where.synced().store, chosen.dataset)  # a mistake is told before anything begins
    with _with_progress([chosen]) as panel:
        from flows.evolve import evolve as flow
        from flows.terminal.run_summary import print_summary
        from storage.runs.run import Run
        from storage.runs.status import run_state
        from tasks.reporting.report import report as write

        flow(chosen, where)
    print_summary(console, where.store, write(where.store, [chosen.name], chosen.name), panel.seconds)
    if (ended := run_state(Run(where.store, chosen.name))).startswith("stopped"):
        console.print(f"[red]{chosen.name}[/] {ended}", soft_wrap=True)


@app.command(epilog="Example: `heirloom compare replace anchor --set num_generations=3`")
def compare(
    recipes: Annotated[list[str], typer.Argument(help="TOML files, or names of shipped recipes, or of runs")],
    name: Annotated[str, typer.Option(help="name of the report")] = "compare",
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Run several recipes on the same human text, at the same time, and write one report."""
    where = _two_workers(load_site(site, store))
    chosen = [load_recipe(recipe, changes or [], where.store) for recipe in recipes]
    with _with_progress(chosen) as panel:
        from flows.compare import compare as flow
        from flows.terminal.run_summary import print_summary

        folder = flow(chosen, where, name)
    print_summary(console, where.store, folder, panel.seconds)


@app.command(epilog="Example: `heirloom plan anchor --set mix.policy=replace`")
def plan(
    recipe: Annotated[str, typer.Argument(help="a TOML file, or the name of a shipped recipe, or of a run")],
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Say what a run would do, without doing it: what is finished, what would be made, and with which settings."""
    from flows.terminal.dry_run import plan

    where = load_site(site, store)
    plan(console, load_recipe(recipe, changes or [], where.store), where)


@app.command(epilog="Example: `heirloom preview anchor --set prompts.template_name=rephrase`")
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


def _two_workers(site: Site) -> Site:
    """Two trainers and two samplers where there are two cores, so that arms run side by side."""
    cores = min(2, os.cpu_count() or 1)
    wider = {
        "num_train_workers": max(cores, site.resources.num_train_workers),
        "num_sample_workers": max(cores, site.resources.num_sample_workers),
    }
    return site.model_copy(update={"resources": site.resources.model_copy(update=wider)})
