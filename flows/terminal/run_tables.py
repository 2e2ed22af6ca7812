"""What the keeping commands print: runs, one run, what can go, and where a text lies."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flows.terminal.console import format_bytes, table
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, read_table
from storage.files import folder_size
from storage.maintenance.erase import RecordLocation
from storage.maintenance.gc import GcCandidate
from storage.runs.run import Run, runs
from storage.runs.status import (
    AttemptSummary,
    accepted_attempts,
    attempt_summaries,
    last_accepted_generation,
    run_state,
)


def show_runs(console: Console, root: Path) -> None:
    """A line a run.

    Raises:
        HeirloomError: there is none.
    """
    told = table("run", "generations", "stands", "policy", "backend", "forked from", "size", numbers=("size",))
    for run in runs(root):
        recipe, reached = run.recipe(), last_accepted_generation(run)
        told.add_row(
            run.name,
            f"{'–' if reached is None else reached} of {recipe['num_generations']}",
            escape(run_state(run)),
            recipe["mix"]["policy"],
            recipe["train"]["backend"],
            _origin(run) or "–",
            format_bytes(folder_size(run.folder)),
        )
    if not told.rows:
        raise HeirloomError(f"there is no run in {root}; begin one with: heirloom run RECIPE")
    console.print(told)


def show_run(console: Console, run: Run) -> None:
    """One run, generation by generation."""
    recipe = run.recipe()
    console.print(f"[bold]{run.name}[/] {escape(recipe['description'])}", soft_wrap=True)
    console.print(
        f"human text {recipe['human']} · policy {recipe['mix']['policy']} · backend {recipe['train']['backend']} "
        f"· sampler {recipe['generate']['sampler']} · {recipe['num_generations']} generations · seed {recipe['seed']}",
        soft_wrap=True,
    )
    if _origin(run):
        console.print(f"forked from {_origin(run)}")
    console.print(f"{escape(run_state(run))} · {format_bytes(folder_size(run.folder))}", soft_wrap=True)
    numbers = ("survivors", "corpus", "human", "perplexity", "seconds", "size")
    told = table("generation", *numbers, "verdict", numbers=numbers, gap=1)
    lived = attempt_summaries(run)
    for turn in lived:
        told.add_row(
            _which(turn),
            "–" if turn.candidates is None else f"{_count(turn.survivors)} of {turn.candidates:,}",
            _count(turn.corpus),
            "–" if turn.human_fraction is None else f"{turn.human_fraction:.0%}",
            "–" if turn.perplexity is None else f"{turn.perplexity:,.1f}",
            f"{turn.work_seconds:,.1f}",
            format_bytes(turn.bytes),
            _ended(turn),
        )
    console.print(told)
    if bare := [_which(turn) for turn in lived if turn.verdict is not None and not turn.has_weights]:
        console.print(f"[dim]without weights: generation {'; '.join(bare)}[/]", soft_wrap=True)
    _show_collapse_tests(console, run)


def _show_collapse_tests(console: Console, run: Run) -> None:
    """Collapse by each of its meanings, as the newest generation that counts tells it."""
    folders = [
        run.folder / f"generation={one}" / f"attempt={two}/collapse_tests"
        for one, two in sorted(accepted_attempts(run))
    ]
    told = [folder for folder in folders if (folder / MANIFEST).exists()]
    rows = read_table(told[-1]).to_pylist() if told else []
    if rows:
        console.print()
    for row in rows:
        since = "" if row["first_generation"] is None else f" since generation {row['first_generation']}"
        colour = {"present": "red", "absent": "green"}.get(row["result"], "dim")
        name = row["test"].replace("_", " ")
        console.print(
            f"{name:<22}[{colour}]{row['result']:<7}{since}[/] [dim]{escape(row['evidence'])}[/]", soft_wrap=True
        )


def show_gc_candidates(console: Console, root: Path, found: Sequence[GcCandidate]) -> None:
    """A line for each thing that can go."""
    if not found:
        console.print(
            "nothing can go; weights of old models can with --keep-models N, rejected attempts with --rejected"
        )
        return
    told = table("what", "where", "size", numbers=("size",))
    for leftover in found:
        told.add_row(leftover.reason, escape(str(leftover.path.relative_to(root))), format_bytes(leftover.bytes))
    told.add_row(f"{len(found):,} in all", "", format_bytes(sum(one.bytes for one in found)), style="bold")
    console.print(told)


def show_locations(console: Console, root: Path, locations: Sequence[RecordLocation]) -> None:
    """A line for each artifact that holds texts, or what they prompted, and whether a model has learned from it."""
    numbers = ("records", "taken out", "prompted by them")
    told = table("where", *numbers, "seen by", numbers=numbers)
    for sight in locations:
        place = escape(str(sight.folder.relative_to(root)))
        counts = (sight.records, sight.redacted, sight.descendants)
        told.add_row(
            place, *(str(count or "–") for count in counts), "the model beside it" if sight.trained_model else "–"
        )
    if locations:
        console.print(told)
    if any(sight.trained_model for sight in locations):
        console.print("[dim]what a model learned stays in it, and in the generations that it spoke for[/]")


def _origin(run: Run) -> str:
    forked = run.forked_from()
    return f"{forked['run']} generation {forked['generation']}" if forked else ""


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _which(turn: AttemptSummary) -> str:
    return f"{turn.generation}, attempt {turn.attempt}" if turn.attempt > 1 else str(turn.generation)


def _ended(turn: AttemptSummary) -> str:
    return ("" if turn.accepted else "rejected, ") + (turn.verdict or "not finished")
