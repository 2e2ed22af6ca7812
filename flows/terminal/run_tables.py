"""What the keeping commands print: runs, one run, what can go, and where a text lies."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flows.terminal.console import size, table
from storage.artifacts.artifact import MANIFEST, read_table
from storage.artifacts.files import bytes_of
from storage.maintenance.erase import Sight
from storage.maintenance.gc import Leftover
from storage.runs.run import Run, runs
from storage.runs.status import Turn, accepted_attempts, furthest, state, turns


def show_runs(console: Console, root: Path) -> None:
    """A line a run.

    Raises:
        ValueError: there is none.
    """
    told = table("run", "generations", "stands", "policy", "backend", "forked from", "size", numbers=("size",))
    for run in runs(root):
        recipe, reached = run.recipe(), furthest(run)
        told.add_row(
            run.name,
            f"{'–' if reached is None else reached} of {recipe['generations']}",
            escape(state(run)),
            recipe["mix"]["policy"],
            recipe["train"]["backend"],
            _origin(run) or "–",
            size(bytes_of(run.folder)),
        )
    if not told.rows:
        raise ValueError(f"there is no run in {root}; begin one with: heirloom evolve RECIPE")
    console.print(told)


def show_run(console: Console, run: Run) -> None:
    """One run, generation by generation."""
    recipe = run.recipe()
    console.print(f"[bold]{run.name}[/] {escape(recipe['question'])}", soft_wrap=True)
    console.print(
        f"human text {recipe['human']} · policy {recipe['mix']['policy']} · backend {recipe['train']['backend']} "
        f"· sampler {recipe['generate']['sampler']} · {recipe['generations']} generations · seed {recipe['seed']}",
        soft_wrap=True,
    )
    if _origin(run):
        console.print(f"forked from {_origin(run)}")
    console.print(f"{escape(state(run))} · {size(bytes_of(run.folder))}", soft_wrap=True)
    numbers = ("survivors", "corpus", "human", "perplexity", "seconds", "size")
    told = table("generation", *numbers, "verdict", numbers=numbers, gap=1)
    lived = turns(run)
    for turn in lived:
        told.add_row(
            _which(turn),
            "–" if turn.candidates is None else f"{_count(turn.survivors)} of {turn.candidates:,}",
            _count(turn.corpus),
            "–" if turn.human_fraction is None else f"{turn.human_fraction:.0%}",
            "–" if turn.perplexity is None else f"{turn.perplexity:,.1f}",
            f"{turn.seconds:,.1f}",
            size(turn.bytes),
            _ended(turn),
        )
    console.print(told)
    if bare := [_which(turn) for turn in lived if turn.verdict is not None and not turn.weights]:
        console.print(f"[dim]without weights: generation {'; '.join(bare)}[/]", soft_wrap=True)
    _show_profile(console, run)


def _show_profile(console: Console, run: Run) -> None:
    """Collapse by each of its meanings, as the newest generation that counts tells it."""
    folders = [
        run.folder / f"generation={one}" / f"attempt={two}/profile" for one, two in sorted(accepted_attempts(run))
    ]
    told = [folder for folder in folders if (folder / MANIFEST).exists()]
    rows = read_table(told[-1]).to_pylist() if told else []
    if rows:
        console.print()
    for row in rows:
        since = "" if row["since"] is None else f" since generation {row['since']}"
        colour = {"present": "red", "absent": "green"}.get(row["state"], "dim")
        name = row["definition"].replace("_", " ")
        console.print(
            f"{name:<22}[{colour}]{row['state']:<7}{since}[/] [dim]{escape(row['evidence'])}[/]", soft_wrap=True
        )


def show_leftovers(console: Console, root: Path, found: Sequence[Leftover]) -> None:
    """A line for each thing that can go."""
    if not found:
        console.print(
            "nothing can go; weights of old models can with --keep-models N, rejected attempts with --rejected"
        )
        return
    told = table("what", "where", "size", numbers=("size",))
    for leftover in found:
        told.add_row(leftover.why, escape(str(leftover.place.relative_to(root))), size(leftover.bytes))
    told.add_row(f"{len(found):,} in all", "", size(sum(one.bytes for one in found)), style="bold")
    console.print(told)


def show_sights(console: Console, root: Path, sights: Sequence[Sight]) -> None:
    """A line for each artifact that holds texts, or what they prompted, and whether a model has learned from it."""
    numbers = ("records", "taken out", "prompted by them")
    told = table("where", *numbers, "seen by", numbers=numbers)
    for sight in sights:
        place = escape(str(sight.folder.relative_to(root)))
        counts = (sight.records, sight.rewritten, sight.prompted)
        told.add_row(place, *(str(count or "–") for count in counts), "the model beside it" if sight.trained else "–")
    if sights:
        console.print(told)
    if any(sight.trained for sight in sights):
        console.print("[dim]what a model learned stays in it, and in the generations that it spoke for[/]")


def _origin(run: Run) -> str:
    forked = run.forked()
    return f"{forked['run']} generation {forked['generation']}" if forked else ""


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _which(turn: Turn) -> str:
    return f"{turn.generation}, attempt {turn.attempt}" if turn.attempt > 1 else str(turn.generation)


def _ended(turn: Turn) -> str:
    return ("" if turn.accepted else "rejected, ") + (turn.verdict or "not finished")
