"""Commands that run loops, and commands that plan, show and report them."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.help import command
from flows.cli.options import RecipeSource, RunName, Set, SiteFile, Store, existing_store

if TYPE_CHECKING:
    from flows.config.site import Site

app = typer.Typer()


@command(app, panel="Loop", example="heirloom demo --quick")
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="Use n-gram models: no torch, no vLLM, less than a minute.")
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            help="Base model that both loops fine-tune: `smollm2`, a folder, or a name on the Hugging Face Hub. "
            "Default: tiny models from scratch."
        ),
    ] = "",
    source: Annotated[
        str, typer.Option(help="Human text: a file or a folder. Default: the documentation of Python.")
    ] = "python-docs",
    passages: Annotated[
        int | None,
        typer.Option(help="Maximum number of human passages to train on. Default: 400, or 200 with --model.", min=50),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for all random number generators.", min=0)] = 0,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Compare a loop that collapses with one that does not, and draw both in one report.

    With `--model`, the completions of one prompt by every generation are shown as well. Interrupted, the same command
    resumes.
    """
    from flows.config.loading import load_site
    from flows.demo import NUM_PASSAGES, NUM_PASSAGES_OF_BASE_MODEL, demo_recipes, fits_in_parallel
    from flows.demo import demo as demo_flow
    from flows.terminal.console import console
    from flows.terminal.progress import flow_session
    from flows.terminal.run_summary import print_answers, print_base_model, print_start, print_summary
    from heirloom.errors import HeirloomError

    if quick and model:
        raise HeirloomError("`--quick` uses n-gram models, and `--model` names another one. Use one of them.")
    suffix = "-quick" if quick else f"-{Path(model).name}" if model else ""
    chosen_site = load_site(site, store or f"heirloom-store/demo{suffix}")
    recipes = demo_recipes(seed, quick=quick, base_model=model)
    in_parallel = fits_in_parallel(recipes, chosen_site)
    if in_parallel:
        chosen_site = _two_workers(chosen_site)
    num_passages = passages or (NUM_PASSAGES_OF_BASE_MODEL if model else NUM_PASSAGES)
    print_start(console, recipes, num_passages)
    if model:
        chosen_site = _all_cores(chosen_site, 2 if in_parallel else 1)
        print_base_model(console, recipes, chosen_site)
    with flow_session(recipes, shows_answers=bool(model)) as panel:
        folder = demo_flow(recipes, chosen_site, source, num_passages)
    names = [recipe.name for recipe in recipes]
    if model:
        print_answers(console, chosen_site.store, names)
    print_summary(console, chosen_site.store, folder, names, panel.seconds)


@command(app, panel="Loop", example="heirloom init letters.jsonl --model ngram")
def init(
    source: Annotated[str, typer.Argument(help="Human text: a file, folder or pattern, hf:NAME, or python-docs.")],
    name: Annotated[str | None, typer.Option(help="Name of dataset and run. Default: that of the source.")] = None,
    text_column: Annotated[
        str, typer.Option(help="Column with the text. Default: `text`, columns of conversations, or the longest text.")
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            help="small: a tiny Llama from scratch; ngram: counts of words; or a pretrained model: smollm2, a folder, "
            "or a name on the Hugging Face Hub. Default: small for documents, smollm2 for conversations."
        ),
    ] = "",
    teacher: Annotated[str, typer.Option(help="Model behind --server that answers instead of the trained one.")] = "",
    server: Annotated[str, typer.Option(help="URL of an OpenAI-compatible server; written to a site file.")] = "",
    folder: Annotated[Path, typer.Option(help="Folder for the recipe.")] = Path(),
) -> None:
    """Write a first recipe for your own text, with comments, and show the commands to run next.

    The source is looked at, not ingested: documents or conversations, in which column, and how long.
    """
    from flows.config.new_recipe import NewRecipe, default_name, write_recipe
    from flows.terminal.console import console
    from tasks.ingestion.sample import sample_source

    sample = sample_source(source, text_column)
    new = NewRecipe(
        name=name or default_name(source),
        source=source,
        sample=sample,
        model=model or ("smollm2" if sample.shape else "small"),
        teacher=teacher,
        server=server,
    )
    files = f"{sample.num_files:,} files, " if sample.num_files > 1 else ""
    console.print(
        f"{source}: {files}{sample.shape or 'documents'}, {sample.median_chars:,} characters at the median of the "
        f"first {sample.num_sampled}",
        markup=False,
        soft_wrap=True,
    )
    if sample.other_columns and not sample.shape:
        others = ", ".join(sample.other_columns)
        console.print(f"text column: {sample.text_column}; others: {others}", markup=False, soft_wrap=True)
    for path in write_recipe(new, folder):
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
    console.print("next:")
    for line in new.next_commands(folder):
        console.print(f"  {line}", markup=False, soft_wrap=True)


@command(app, panel="Loop", example="heirloom run anchor --set num_generations=3")
def run(recipe: RecipeSource, changes: Set = None, store: Store = None, site: SiteFile = None) -> None:
    """Run a recipe up to its last generation.

    An existing run resumes: finished artifacts are loaded, not computed again.
    """
    from flows.config.loading import load_recipe, load_site
    from flows.terminal.console import console
    from flows.terminal.progress import flow_session
    from flows.terminal.run_summary import warn_without_filters
    from storage.datasets.snapshots import newest_snapshot

    chosen_site = load_site(site, store)
    chosen = load_recipe(recipe, changes or [], chosen_site.store)
    # Reports a missing dataset before a server is started.
    newest_snapshot(chosen_site.synced().store, chosen.dataset)
    warn_without_filters(console, chosen)
    with flow_session([chosen]) as panel:
        from flows.evolve import evolve as evolve_flow
        from flows.terminal.run_summary import print_summary
        from storage.runs.run import Run
        from storage.runs.status import run_state
        from tasks.reporting.report import report as write_report

        evolve_flow(chosen, chosen_site)
    folder = write_report(chosen_site.store, [chosen.name], chosen.name)
    print_summary(console, chosen_site.store, folder, [chosen.name], panel.seconds)
    state = run_state(Run(chosen_site.store, chosen.name))
    if state.startswith("stopped"):
        console.print(f"[red]{chosen.name}[/] {state}", soft_wrap=True)


@command(app, panel="Loop", example="heirloom compare replace anchor --set num_generations=3")
def compare(
    recipes: Annotated[
        list[str], typer.Argument(metavar="RECIPES...", help="TOML files, shipped recipes, or runs; two or more.")
    ],
    name: Annotated[str, typer.Option(help="Name of the report.")] = "compare",
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Run several recipes on the same human text, in parallel, and write one report."""
    from flows.config.loading import load_recipe, load_site
    from flows.terminal.console import console
    from flows.terminal.progress import flow_session
    from flows.terminal.run_summary import print_summary, warn_without_filters

    chosen_site = _two_workers(load_site(site, store))
    chosen = [load_recipe(recipe, changes or [], chosen_site.store) for recipe in recipes]
    for each in chosen:
        warn_without_filters(console, each)
    with flow_session(chosen) as panel:
        from flows.compare import compare as compare_flow

        folder = compare_flow(chosen, chosen_site, name)
    print_summary(console, chosen_site.store, folder, [each.name for each in chosen], panel.seconds)


@command(app, panel="Loop", example="heirloom plan anchor --set mix.policy=replace")
def plan(
    recipe: RecipeSource,
    changes: Set = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show every artifact, every part of the memory estimate, and every setting.")
    ] = False,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Show what a run would do: data, generations, changed settings, tokens, time, memory, and your code in it."""
    from flows.config.loading import load_recipe, load_site
    from flows.terminal.console import console
    from flows.terminal.dry_run import print_plan

    chosen_site = load_site(site, store)
    print_plan(console, load_recipe(recipe, changes or [], chosen_site.store), chosen_site, show_all)


@command(app, panel="Loop", example="heirloom preview anchor --set prompts.template_name=rephrase")
def preview(
    recipe: RecipeSource,
    count: Annotated[int, typer.Option(help="Number of prompts to show in full.", min=0)] = 3,
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Show the prompts of the next generation, and their number per attribute, topic and teacher."""
    from flows.config.loading import load_recipe, load_site
    from flows.terminal.console import console
    from flows.terminal.prompt_preview import print_preview

    chosen_site = load_site(site, store)
    print_preview(console, load_recipe(recipe, changes or [], chosen_site.store), chosen_site, count)


@command(app, panel="Loop", example="heirloom forecast anchor --set dataset=letters --min-coverage 0.95")
def forecast(
    recipe: RecipeSource,
    min_coverage: Annotated[
        str, typer.Option(help="Goal: fraction of the tracked words that must survive, as 0.95 or 95%.")
    ] = "0.95",
    word_count: Annotated[
        int, typer.Option(help="Goal: track words that occur this often in the human text.", min=1)
    ] = 5,
    generations: Annotated[int, typer.Option(help="Goal: number of generations.", min=1)] = 10,
    plot: Annotated[Path | None, typer.Option(help="PNG file for a plot of the forecast.")] = None,
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Forecast coverage, drift, tokens and time of a recipe, and the human share that a goal requires."""
    from flows.config.loading import load_recipe, load_site
    from flows.terminal.console import console
    from flows.terminal.forecast import ForecastGoal, parse_share, print_forecast

    goal = ForecastGoal(min_coverage=parse_share(min_coverage), word_count=word_count, generations=generations)
    chosen_site = load_site(site, store)
    print_forecast(console, load_recipe(recipe, changes or [], chosen_site.store), chosen_site, goal, plot)


@command(app, panel="Loop", name="list", example="heirloom list")
def list_runs(store: Store = None) -> None:
    """List the runs of a store: generations, state, policy, backend and size."""
    from flows.terminal.console import console
    from flows.terminal.run_tables import show_runs

    show_runs(console, existing_store(store))


@command(app, panel="Loop", example="heirloom show anchor")
def show(run: RunName, store: Store = None) -> None:
    """Show one run: its recipe in short, its state, each generation in numbers, and collapse tests."""
    from flows.terminal.console import console
    from flows.terminal.run_tables import show_run
    from storage.runs.run import Run

    show_run(console, Run(existing_store(store), run))


@command(app, panel="Loop", example="heirloom report naive guarded")
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUNS...", help="Names of runs.")],
    name: Annotated[str | None, typer.Option(help="Name of the report. Default: the names of the runs.")] = None,
    store: Store = None,
) -> None:
    """Write a report on existing runs, as one HTML page with plots."""
    from flows.config.loading import load_site
    from flows.terminal.console import console
    from storage.runs.run import Run
    from tasks.reporting.report import report as write_report

    root = load_site(None, store).synced().store
    for run_name in runs:
        Run(root, run_name).recipe()
    folder = write_report(root, runs, name or "-".join(runs))
    console.print(str(folder / "report.html"), markup=False, soft_wrap=True)


@command(
    app,
    panel="Loop",
    example="heirloom review anchor --to anchor.csv --sample 50\nheirloom review anchor --from anchor.csv",
)
def review(
    run: RunName,
    to: Annotated[
        Path | None, typer.Option(help="New file for a sample of candidates: .csv, .jsonl or .parquet.")
    ] = None,
    read: Annotated[
        Path | None, typer.Option("--from", help="File with judgements to record: accept or reject in column verdict.")
    ] = None,
    sample: Annotated[int, typer.Option(help="Maximum number of candidates in the file.", min=1)] = 100,
    generation: Annotated[int | None, typer.Option(help="Default: the newest one with candidates.", min=1)] = None,
    reviewer: Annotated[str, typer.Option(help="Reviewer of rows whose column reviewer is empty.")] = "",
    store: Store = None,
) -> None:
    """Write candidates to a file for people to judge, and record the judgements from it.

    Candidates that each filter dropped and kept ones take turns. A file with a mistake is rejected as a whole.
    """
    from flows.terminal.console import console
    from heirloom.errors import HeirloomError
    from storage.runs.run import Run
    from tasks.reporting.review_files import agreement, import_review_file, write_review_file

    if (to is None) == (read is None):
        raise HeirloomError("Name either a file to write with --to, or a file with judgements with --from.")
    chosen = Run(existing_store(store), run)
    chosen.recipe()
    if to:
        lines = [f"wrote {write_review_file(chosen, to, sample, generation)} candidates to {to}"]
    else:
        assert read is not None
        result = import_review_file(chosen, read, reviewer)
        counts = f"{result.repeated} were recorded before, {result.blank} rows have none"
        lines = [f"recorded {result.recorded} judgements; {counts}"]
        alpha = agreement(chosen)
        if not math.isnan(alpha):
            lines.append(f"agreement of the reviewers (Krippendorff's alpha): {alpha:.2f}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _two_workers(site: "Site") -> "Site":
    """Return the site with at least two train and two sample workers on two cores, so that recipes run in parallel."""
    cores = min(2, os.cpu_count() or 1)
    workers = {
        "num_train_workers": max(cores, site.resources.num_train_workers),
        "num_sample_workers": max(cores, site.resources.num_sample_workers),
    }
    return site.model_copy(update={"resources": site.resources.model_copy(update=workers)})


def _all_cores(site: "Site", num_processes: int) -> "Site":
    """Return the site with the cores of this machine shared among processes, unless it sets more threads."""
    threads = max(site.resources.threads_per_worker, (os.cpu_count() or 1) // num_processes)
    return site.model_copy(update={"resources": site.resources.model_copy(update={"threads_per_worker": threads})})
