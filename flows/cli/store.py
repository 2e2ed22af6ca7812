"""Commands that keep a store in order and to be trusted. None of them imports Prefect."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Set, Store
from flows.config.loading import apply_overrides, load_site, shipped_recipes
from flows.config.recipe import Recipe
from flows.terminal.console import console
from heirloom.errors import HeirloomError
from storage.query.scan import require_store
from storage.remote.mirror import bucket_for

app = typer.Typer()


Yes = Annotated[bool, typer.Option("--yes", help="do it without asking")]


Runs = Annotated[list[str], typer.Argument(help="names of runs")]


@app.command("list", epilog="Example: `heirloom list`")
def list_runs(store: Store = None) -> None:
    """List the runs of a store: how far each is, where it stands, and by which policy."""
    from flows.terminal.run_tables import show_runs

    show_runs(console, _store(store))


@app.command(epilog="Example: `heirloom show anchor`")
def show(run: Annotated[str, typer.Argument(help="name of a run")], store: Store = None) -> None:
    """Show one run: its recipe in short, each generation in numbers, where it stands, and who is writing it."""
    from flows.terminal.run_tables import show_run
    from storage.runs.run import Run

    show_run(console, Run(_store(store), run))


@app.command(epilog="Example: `heirloom verify`, or `heirloom verify anchor`")
def verify(
    runs: Annotated[list[str] | None, typer.Argument(help="names of runs; default is the whole store")] = None,
    store: Store = None,
) -> None:
    """Check every file, row count, fingerprint and parent; name each fault, and what to do about it."""
    from flows.terminal.console import format_bytes, progress_counter
    from storage.maintenance.verify import verify as examine
    from storage.remote.mirror import fresh_copy

    with fresh_copy(_store(store)) as root, progress_counter(console, "verified", "artifacts") as told:
        found = examine(root, runs or (), told)
    for fault in found.errors:
        _print(f"[red]fault[/] {_plain(fault)}")
    gone = (
        f"; {found.without_weights} models without weights, as heirloom gc left them" if found.without_weights else ""
    )
    _print(f"{found.artifacts:,} artifacts, {found.files:,} files, {format_bytes(found.bytes)} examined{gone}")
    if found.errors:
        _print(f"[red]faults: {len(found.errors):,}[/]")
        raise typer.Exit(1)
    _print("all is as it was written")


@app.command(epilog="Example: `heirloom rm naive`")
def rm(runs: Runs, store: Store = None, yes: Yes = False) -> None:
    """Remove runs with all their files; a run that is being written is refused."""
    from flows.terminal.console import format_bytes
    from storage.files import folder_size
    from storage.maintenance.gc import forks_of, remove_run
    from storage.runs.run import BusyError, Run

    found = [Run(_store(store), name) for name in dict.fromkeys(runs)]
    for run in found:
        run.recipe()
        if writer := run.lock_holder():
            raise BusyError(f"run {run.name} is being written by {writer}; nothing was removed")
        kept = f"; forked from it, and whole without it: {', '.join(forks)}" if (forks := forks_of(run)) else ""
        _print(f"{run.name}: {format_bytes(folder_size(run.folder))}{kept}")
    _confirm(yes, f"remove {', '.join(run.name for run in found)} for ever?")
    for run in found:
        remove_run(run)
    _print("removed")


@app.command(epilog="Example: `heirloom gc --keep-models 2`, then the same with `--yes`")
def gc(
    keep_models: Annotated[
        int | None, typer.Option(help="remove weights too, but of generation 0 and this many of the newest", min=1)
    ] = None,
    rejected: Annotated[bool, typer.Option("--rejected", help="remove rejected attempts too")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only list what would go: what it does without --yes")
    ] = False,
    store: Store = None,
    yes: Annotated[bool, typer.Option("--yes", help="remove what is listed")] = False,
) -> None:
    """List what piles up and can go, with its bytes: drafts of dead runs, old logs, weights of old models."""
    from flows.terminal.run_tables import show_gc_candidates
    from storage.maintenance.gc import find_gc_candidates
    from storage.runs.run import BusyError

    root = _store(store)
    if keep_models:
        _require_local_store(root, "remove weights")
    found = find_gc_candidates(root, keep_models, rejected)
    show_gc_candidates(console, root, found)
    if found and (dry_run or not yes):
        _print("nothing was removed; the same command with --yes does it")
        return
    for leftover in found:
        try:
            leftover.delete()
        except BusyError as error:
            _print(f"[yellow]left alone[/] {_plain(str(error))}")
    if found:
        _print("removed")


@app.command(epilog="Example: `heirloom fork anchor --generation 2 --name warmer --set generate.temperature=1.2`")
def fork(
    run: Annotated[str, typer.Argument(help="name of the run to fork from")],
    name: Annotated[str, typer.Option("--name", help="name of the new run")],
    generation: Annotated[int, typer.Option(help="newest generation to take over", min=0)],
    changes: Set = None,
    store: Store = None,
) -> None:
    """Begin a run with another's generations, to go on by other settings: heirloom run NAME goes on."""
    from storage.runs.fork import fork as begin
    from storage.runs.run import Run

    source = Run(_store(store), run)
    _require_local_store(source.root, "fork")
    before = source.recipe()
    changed = apply_overrides({**source.recipe(), "name": name}, changes or [])
    recipe = Recipe.model_validate(changed).resolve_auto(stored=before)
    if name in shipped_recipes() or recipe.name != name:
        raise HeirloomError(
            f"{name} is the name of a shipped recipe, or was set to another; give the fork a name of its own"
        )
    if recipe.dataset != before["dataset"] or recipe.train.backend != before["train"]["backend"]:
        raise HeirloomError(
            "a fork keeps the human text and the backend of its run: its models are measured on one, made by the other"
        )
    if recipe.num_generations <= generation:
        raise HeirloomError(
            f"generation {generation} would be inherited and the recipe ends at {recipe.num_generations}; --set num_generations={generation + 3}"
        )
    begin(source, generation, name, recipe.model_dump(mode="json"))
    _print(f"{name} has generations 0 to {generation} of {run}; go on with: heirloom run {name}")


@app.command(epilog="Example: `heirloom erase h-0123456789abcdef --reason 'license withdrawn' --redact-files`")
def erase(
    ids: Annotated[list[str], typer.Argument(help="ids of records; a candidate's also as RUN/ID")],
    reason: Annotated[str, typer.Option(help="why, for the record")] = "",
    redact_files: Annotated[bool, typer.Option("--redact-files", help="take the texts out of the files too")] = False,
    include_descendants: Annotated[
        bool, typer.Option("--include-descendants", help="forget the candidates they prompted too")
    ] = False,
    store: Store = None,
    yes: Annotated[bool, typer.Option("--yes", help="with --redact-files: do it without asking")] = False,
) -> None:
    """Keep records out of every later corpus, prompt and view, and say what has seen them."""
    from flows.terminal.run_tables import show_locations
    from storage.artifacts.tombstones import add_tombstones
    from storage.maintenance.erase import find_locations, find_text_hashes
    from storage.runs.run import runs as found_runs

    root = _store(store)
    _require_local_store(root, "forget")
    digests = find_text_hashes(root, list(dict.fromkeys(ids)))
    sights, prompted = find_locations(root, list(digests.values()))
    if include_descendants:
        digests |= prompted
        sights, prompted = find_locations(root, list(digests.values()))
    show_locations(console, root, sights)
    if redact_files and sights:
        _confirm(yes, "take these texts out of these files for ever?")
    add_tombstones(root, digests, reason)
    _print(f"forgotten: {', '.join(digests)}; no later corpus, prompt or view holds the text")
    for one in found_runs(root):
        if writer := one.lock_holder():
            _print(
                f"[yellow]run {one.name} is being written[/] by {writer}; what it has read it may still use: ask again when it has ended"
            )
    if prompted:
        _print(
            f"[yellow]{len(prompted):,} candidates were prompted by it[/] and repeat its words; --include-descendants forgets them too"
        )
    if redact_files:
        _redact(root, list(digests.values()))
    elif any(sight.records for sight in sights):
        _print("files still hold the text; the same command with --redact-files takes it out")


def _redact(root: Path, digests: list[str]) -> None:
    from storage.maintenance.erase import redact

    artifacts, rows = redact(root, digests)
    _print(f"rewritten without it: {artifacts:,} artifacts, {rows:,} rows; models and reports stay as they are")


def _store(store: str | None) -> Path:
    root = load_site(None, store).synced().store
    require_store(root)
    return root


def _require_local_store(root: Path, deed: str) -> None:
    if bucket_for(root / "runs"):
        raise HeirloomError(f"{root} mirrors object storage, and heirloom cannot {deed} there yet; nothing was changed")


def _confirm(yes: bool, question: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise HeirloomError("nobody is there to be asked; say --yes, or run this in a terminal")
    if not typer.confirm(question):
        _print("nothing was changed")
        raise typer.Exit(1)


def _print(text: str) -> None:
    console.print(text, soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@app.command(epilog="Example: `heirloom catalog`")
def catalog(
    file: Annotated[Path | None, typer.Option(help="where to write it; default catalog.duckdb in the store")] = None,
    store: Store = None,
) -> None:
    """Write every view to a DuckDB file that any DuckDB of this version opens; run it again to bring the file up to date."""
    from storage.query.catalog import write_catalog

    root = load_site(None, store).synced().store
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
    from storage.export.corpus import export_corpus as write
    from storage.export.model_card import export_model

    root = load_site(None, store).synced().store
    folder = export_model(root, run, generation, out) if model else write(root, run, generation, to, out)
    console.print(f"{folder}", markup=False, soft_wrap=True)
