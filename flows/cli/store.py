"""Commands that maintain a store. None of them imports Prefect."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.help import command
from flows.cli.options import RunName, Set, Store, Yes, existing_store
from heirloom.commands import suggest

app = typer.Typer()


@command(app, panel="Store", example="heirloom verify\nheirloom verify anchor")
def verify(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUNS]...", help="Names of runs. Default: the whole store.")
    ] = None,
    store: Store = None,
) -> None:
    """Verify every file, row count, fingerprint and parent. The exit code is 1 if there are errors."""
    from rich.markup import escape

    from flows.terminal.console import console, format_bytes, progress_counter
    from storage.maintenance.verify import verify as verify_store
    from storage.remote.mirror import fresh_copy

    with fresh_copy(existing_store(store)) as root, progress_counter(console, "verified", "artifacts") as report:
        result = verify_store(root, runs or (), report)
    for error in result.errors:
        _print(f"[red]error[/] {escape(error)}")
    size = format_bytes(result.bytes)
    removed = f"; {result.without_weights} models have no weights, removed by heirloom gc"
    _print(
        f"{result.artifacts:,} artifacts, {result.files:,} files, {size} verified"
        f"{removed if result.without_weights else ''}"
    )
    if result.errors:
        _print(f"[red]errors: {len(result.errors):,}[/]")
        raise typer.Exit(1)
    _print("No errors found.")


@command(app, panel="Store", example="heirloom export guarded --generation 5 --to hf")
def export(
    run: RunName,
    generation: Annotated[
        int | None, typer.Option(help="Generation to export. Default: the newest that is finished.", min=0)
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="Format of the corpus: hf (for datasets.load_dataset), jsonl or parquet.")
    ] = "hf",
    model: Annotated[bool, typer.Option("--model", help="Export the model instead of the corpus.")] = False,
    base: Annotated[
        Path | None,
        typer.Option(help="With --model: folder outside of the store to copy if the model is an adapter on it."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write. Default: RUN-generation-N-KIND here.")] = None,
    store: Store = None,
) -> None:
    """Export a corpus or a model to a folder, with a card that describes its origin."""
    from flows.config.loading import load_site
    from flows.terminal.console import console
    from storage.export.corpus import export_corpus
    from storage.export.model_card import export_model

    root = load_site(None, store).synced().store
    if model:
        console.print(str(export_model(root, run, generation, out, base)), markup=False, soft_wrap=True)
        return
    console.print(str(export_corpus(root, run, generation, to, out)), markup=False, soft_wrap=True)


@command(app, panel="Store", example="heirloom fork anchor --generation 2 --name warmer --set generate.temperature=1.2")
def fork(
    run: RunName,
    name: Annotated[str, typer.Option("--name", help="Name of the new run.")],
    generation: Annotated[int, typer.Option(help="Last generation that the new run inherits.", min=0)],
    changes: Set = None,
    store: Store = None,
) -> None:
    """Start a run from the first generations of another one, with other settings from there on."""
    from flows.config.loading import apply_overrides, shipped_recipes, validate_settings
    from flows.config.recipe import Recipe
    from heirloom.errors import HeirloomError
    from storage.runs.fork import fork as fork_run
    from storage.runs.run import Run

    source = Run(existing_store(store), run)
    _require_local_store(source.root, "fork a run")
    before = source.recipe()
    changed = apply_overrides({**source.recipe(), "name": name}, changes or [], Recipe)
    recipe = validate_settings(Recipe, changed).resolve_auto(stored=before)
    if name in shipped_recipes():
        raise HeirloomError(f"`--name {name}` is the name of a shipped recipe. Choose another name for the fork.")
    if recipe.name != name:
        raise HeirloomError(f"`--set name={recipe.name}` contradicts `--name {name}`. Use `--name` alone.")
    for key, old, new in (
        ("dataset", before["dataset"], recipe.dataset),
        ("train.backend", before["train"]["backend"], recipe.train.backend),
    ):
        if new != old:
            raise HeirloomError(
                f"A fork keeps the dataset and the backend of its run: `{key}` is {old!r} there and {new!r} here. "
                f"Remove `--set {key}`, or start a new run."
            )
    if recipe.num_generations <= generation:
        raise HeirloomError(
            f"The fork inherits generation {generation}, but `num_generations` is {recipe.num_generations}, so nothing "
            f"would run. Raise it, as in `--set num_generations={generation + 3}`."
        )
    fork_run(source, generation, name, recipe.model_dump(mode="json"))
    _print(f"{name} has generations 0 to {generation} of {run}. Continue with: {suggest('run', name)}")


@command(app, panel="Store", example="heirloom gc --keep-models 2\nheirloom gc --keep-models 2 --yes")
def gc(
    keep_models: Annotated[
        int | None,
        typer.Option(help="Delete weights too, except those of generation 0 and of this many newest.", min=1),
    ] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="Delete rejected attempts too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the files, even with --yes.")] = False,
    store: Store = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete the files that are listed.")] = False,
) -> None:
    """List files that can be deleted and their sizes: abandoned drafts, old logs, weights of old models."""
    from rich.markup import escape

    from flows.terminal.console import console
    from flows.terminal.run_tables import show_gc_candidates
    from storage.maintenance.gc import find_gc_candidates
    from storage.runs.run import BusyError

    root = existing_store(store)
    if keep_models:
        _require_local_store(root, "delete weights")
    candidates = find_gc_candidates(root, keep_models, rejected)
    show_gc_candidates(console, root, candidates)
    if not candidates:
        return
    if dry_run or not yes:
        _print("Nothing was deleted. Pass --yes to delete these files.")
        return
    for candidate in candidates:
        try:
            candidate.delete()
        except BusyError as error:
            _print(f"[yellow]skipped[/] {escape(str(error))}")
    _print("Deleted.")


@command(app, panel="Store", example="heirloom rm naive")
def rm(
    runs: Annotated[list[str], typer.Argument(metavar="RUNS...", help="Names of runs.")],
    store: Store = None,
    yes: Yes = False,
) -> None:
    """Delete runs with all their files. A run that is being written is refused."""
    from flows.terminal.console import format_bytes
    from storage.files import folder_size
    from storage.maintenance.gc import forks_of, remove_run
    from storage.runs.run import BusyError, Run

    root = existing_store(store)
    chosen = [Run(root, name) for name in dict.fromkeys(runs)]
    for run in chosen:
        run.recipe()
        if writer := run.lock_holder():
            raise BusyError(f"Run {run.name} is being written by {writer}. Nothing was deleted.")
        forks = forks_of(run)
        note = f"; its forks stay complete: {', '.join(forks)}" if forks else ""
        _print(f"{run.name}: {format_bytes(folder_size(run.folder))}{note}")
    _confirm(yes, f"Delete {', '.join(run.name for run in chosen)} permanently?")
    for run in chosen:
        remove_run(run)
    _print("Deleted.")


@command(app, panel="Store", example="heirloom erase h-0123456789abcdef --reason 'license withdrawn' --redact-files")
def erase(
    ids: Annotated[list[str], typer.Argument(help="Record ids; for one of several runs as RUN/ID.")],
    reason: Annotated[str, typer.Option(help="Reason, stored with the tombstone.")] = "",
    redact_files: Annotated[
        bool, typer.Option("--redact-files", help="Remove the texts from existing files too.")
    ] = False,
    include_descendants: Annotated[
        bool, typer.Option("--include-descendants", help="Erase candidates that were prompted with the records too.")
    ] = False,
    store: Store = None,
    yes: Annotated[bool, typer.Option("--yes", help="Redact files without asking for confirmation.")] = False,
) -> None:
    """Exclude records from all later prompts, corpora and views, and list the models that were trained on them."""
    from flows.terminal.console import console
    from flows.terminal.run_tables import show_locations
    from storage.artifacts.tombstones import add_tombstones
    from storage.maintenance.erase import find_locations, find_text_hashes
    from storage.runs.run import runs as list_runs

    root = existing_store(store)
    _require_local_store(root, "erase records")
    text_hashes = find_text_hashes(root, list(dict.fromkeys(ids)))
    locations, descendants = find_locations(root, list(text_hashes.values()))
    if include_descendants:
        text_hashes |= descendants
        locations, descendants = find_locations(root, list(text_hashes.values()))
    show_locations(console, root, locations)
    if redact_files and locations:
        _confirm(yes, "Remove these texts from these files permanently?")
    add_tombstones(root, text_hashes, reason)
    _print(f"Erased: {', '.join(text_hashes)}. Later corpora, prompts and views exclude the text.")
    for run in list_runs(root):
        if writer := run.lock_holder():
            _print(
                f"[yellow]Run {run.name} is being written[/] by {writer} and may still use records that it has read. "
                "Run this command again after it has ended."
            )
    if descendants:
        _print(
            f"[yellow]{len(descendants):,} candidates were prompted with the text[/] and may repeat it. "
            "Pass --include-descendants to erase them too."
        )
    if redact_files:
        _redact(root, list(text_hashes.values()))
    elif any(location.records for location in locations):
        _print("Files still contain the text. Run the same command with --redact-files to remove it.")


def _redact(root: Path, text_hashes: Sequence[str]) -> None:
    from storage.maintenance.erase import redact

    artifacts, rows = redact(root, text_hashes)
    _print(f"Redacted {rows:,} rows in {artifacts:,} artifacts. Models and reports are unchanged.")


def _require_local_store(root: Path, action: str) -> None:
    """Refuse an action that is not implemented for stores in object storage.

    Raises:
        HeirloomError: the store mirrors object storage.
    """
    from heirloom.errors import HeirloomError
    from storage.remote.mirror import bucket_for

    if bucket_for(root / "runs"):
        raise HeirloomError(f"{root} mirrors object storage, where heirloom cannot {action} yet. Nothing was changed.")


def _confirm(yes: bool, question: str) -> None:
    """Ask for confirmation on the terminal, and exit with code 1 if it is refused.

    Raises:
        HeirloomError: there is no terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        from heirloom.errors import HeirloomError

        raise HeirloomError("Cannot ask for confirmation without a terminal. Pass `--yes`.")
    if not typer.confirm(question):
        _print("Nothing was changed.")
        raise typer.Exit(1)


def _print(text: str) -> None:
    from flows.terminal.console import console

    console.print(text, soft_wrap=True)
