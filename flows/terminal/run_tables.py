"""Print runs, one run, files that can be deleted, and locations of a record."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flows.terminal.console import format_bytes, table
from heirloom.commands import suggest
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, read_table
from storage.files import folder_size
from storage.maintenance.erase import RecordLocation
from storage.maintenance.gc import GcCandidate
from storage.runs.failure import FAILURE_LOG
from storage.runs.run import Run, runs
from storage.runs.status import (
    AttemptSummary,
    RunStatus,
    accepted_attempts,
    attempt_summaries,
    last_accepted_generation,
    run_status,
)

_NONE = "–"
_COSTS = ("generate", "train", "measure")
"""Stages whose seconds `show` prints, see `StageSeconds`."""
_NEEDS_ATTENTION = ("stopped", "rolled back", "waiting for review", "failed", "interrupted")
"""Kinds of states that `list` explains below its table."""
_RESULT_COLORS = {"present": "red", "absent": "green"}


def show_runs(console: Console, root: Path) -> None:
    """Print one line per run.

    Raises:
        HeirloomError: the store has no run.
    """
    rows = table("run", "generations", "state", "policy", "backend", "forked from", "size", numbers=("size",))
    notes = []
    for run in runs(root):
        recipe, last_generation, status = run.recipe(), last_accepted_generation(run), run_status(run)
        if status.kind in _NEEDS_ATTENTION:
            notes.append(f"{run.name} {_describe(run, status)}")
        rows.add_row(
            run.name,
            f"{_NONE if last_generation is None else last_generation} of {recipe['num_generations']}",
            escape(status.summary),
            recipe["mix"]["policy"],
            recipe["train"]["backend"],
            _origin(run) or _NONE,
            format_bytes(folder_size(run.folder)),
        )
    if not rows.rows:
        raise HeirloomError(f"There is no run in {root}. Start one with `{suggest('run', 'RECIPE')}`.")
    console.print(rows)
    for note in notes:
        console.print(f"\n{note}", markup=False, soft_wrap=True)


def show_run(console: Console, run: Run) -> None:
    """Print the recipe of a run in short, its state, each attempt in numbers, and its collapse tests."""
    recipe = run.recipe()
    console.print(f"[bold]{run.name}[/] {escape(recipe['description'])}", soft_wrap=True)
    console.print(
        f"dataset {recipe['dataset']} · policy {recipe['mix']['policy']} · backend {recipe['train']['backend']} "
        f"· sampler {recipe['generate']['sampler']} · {recipe['num_generations']} generations · seed {recipe['seed']}",
        soft_wrap=True,
    )
    if _origin(run):
        console.print(f"forked from {_origin(run)}")
    console.print(_describe(run, run_status(run)), markup=False, soft_wrap=True)
    numbers = ("survivors", "corpus", "human", "perplexity", "seconds", *_COSTS, "size")
    rows = table("generation", *numbers, "verdict", numbers=numbers, gap=1)
    attempts = attempt_summaries(run)
    for attempt in attempts:
        rows.add_row(
            _label(attempt),
            _NONE if attempt.candidates is None else f"{_count(attempt.survivors)} of {attempt.candidates:,}",
            _count(attempt.corpus),
            _NONE if attempt.human_fraction is None else f"{attempt.human_fraction:.0%}",
            _NONE if attempt.perplexity is None else f"{attempt.perplexity:,.1f}",
            f"{attempt.work_seconds:,.1f}",
            *(f"{getattr(attempt.cost, stage):,.1f}" for stage in _COSTS),
            format_bytes(attempt.bytes),
            _verdict(attempt),
        )
    console.print(rows)
    shares = [attempt.cost.measure_share for attempt in attempts if attempt.cost.measure_share is not None]
    if shares:
        console.print(f"[dim]measuring took {statistics.median(shares):.0%} of the time of generating (median)[/]")
    console.print(f"[dim]size: {format_bytes(folder_size(run.folder))}[/]")
    removed = [_label(attempt) for attempt in attempts if attempt.verdict is not None and not attempt.has_weights]
    if removed:
        console.print(f"[dim]without weights: generation {'; '.join(removed)}[/]", soft_wrap=True)
    _show_collapse_tests(console, run)


def _show_collapse_tests(console: Console, run: Run) -> None:
    """Print the collapse tests of the newest accepted attempt that has them."""
    folders = [
        run.folder / f"generation={generation}" / f"attempt={attempt}" / "collapse_tests"
        for generation, attempt in sorted(accepted_attempts(run))
    ]
    finished = [folder for folder in folders if (folder / MANIFEST).exists()]
    if not finished:
        return
    console.print()
    for row in read_table(finished[-1]).to_pylist():
        since = "" if row["first_generation"] is None else f" since generation {row['first_generation']}"
        color = _RESULT_COLORS.get(row["result"], "dim")
        name = row["test"].replace("_", " ")
        console.print(
            f"{name:<22}[{color}]{row['result']:<7}{since}[/] [dim]{escape(row['evidence'])}[/]", soft_wrap=True
        )


def show_gc_candidates(console: Console, root: Path, candidates: Sequence[GcCandidate]) -> None:
    """Print one line per file or folder that can be deleted, and the total size."""
    if not candidates:
        console.print(
            "Nothing to delete. Weights of old models are included with --keep-models N, rejected attempts with "
            "--rejected.",
            soft_wrap=True,
        )
        return
    rows = table("reason", "path", "size", numbers=("size",))
    for candidate in candidates:
        path = escape(str(candidate.path.relative_to(root)))
        rows.add_row(candidate.reason, path, format_bytes(candidate.bytes))
    total = format_bytes(sum(candidate.bytes for candidate in candidates))
    rows.add_row(f"{len(candidates):,} in total", "", total, style="bold")
    console.print(rows)


def show_locations(console: Console, root: Path, locations: Sequence[RecordLocation]) -> None:
    """Print one line per artifact with the records or their descendants, and whether a model was trained on it."""
    numbers = ("records", "redacted", "descendants")
    rows = table("artifact", *numbers, "trained on it", numbers=numbers)
    for location in locations:
        counts = (location.records, location.redacted, location.descendants)
        rows.add_row(
            escape(str(location.folder.relative_to(root))),
            *(str(count or _NONE) for count in counts),
            "the model beside it" if location.trained_model else _NONE,
        )
    if locations:
        console.print(rows)
    if any(location.trained_model for location in locations):
        console.print(
            "[dim]Erasing does not change models that were trained on the text, nor the generations they sampled.[/]",
            soft_wrap=True,
        )


def _describe(run: Run, status: RunStatus) -> str:
    """Return the state of a run, its reason, and what to do."""
    return f"{str(status).rstrip('.')}.{_next_step(run, status)}"


def _next_step(run: Run, status: RunStatus) -> str:
    match status.kind:
        case "running":
            return ""
        case "finished":
            return f" Next: `{suggest('report', run.name)}`."
        case "stopped" | "rolled back":
            fork = suggest(
                "fork", run.name, "--generation", str(last_accepted_generation(run) or 0), "--name", "NEW-NAME"
            )
            return f" To go on with other settings: `{fork}`."
        case "waiting for review":
            return " Answer it on the page of its flow run in Prefect (Resume); then the default decision applies."
        case "failed":
            command = suggest("run", run.name)
            return f" Once that is fixed, `{command}` resumes it. The traceback is in logs/{FAILURE_LOG} of the store."
        case "interrupted" | "ready":
            return f" `{suggest('run', run.name)}` resumes it."


def _origin(run: Run) -> str:
    forked = run.forked_from()
    return f"{forked['run']} generation {forked['generation']}" if forked else ""


def _count(number: int | None) -> str:
    return _NONE if number is None else f"{number:,}"


def _label(attempt: AttemptSummary) -> str:
    if attempt.attempt > 1:
        return f"{attempt.generation}, attempt {attempt.attempt}"
    return str(attempt.generation)


def _verdict(attempt: AttemptSummary) -> str:
    verdict = attempt.verdict or "not finished"
    return verdict if attempt.accepted else f"rejected, {verdict}"
