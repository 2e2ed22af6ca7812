"""What the terminal says before and after a run: the story in one table, and what to try next."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows.config.recipe import Recipe
from flows.terminal.console import table
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.backends import TransformerTraining

_TOYS = {"ngram": "counting words", "gaussian-mixture": "fitting Gaussians", "vae": "encoding points"}


def print_start(console: Console, recipes: Sequence[Recipe], passages: int) -> None:
    """What is about to run."""
    console.print(f"Loops on the same {passages:,} passages of human text, seed {recipes[0].seed}:")
    for recipe in recipes:
        length = (
            f"{recipe.train.generation_0_max_steps} steps on human text"
            if isinstance(recipe.train, TransformerTraining)
            else _TOYS[recipe.train.backend]
        )
        if recipe.num_generations and isinstance(recipe.train, TransformerTraining):
            length += f", then {recipe.train.max_steps} a generation"
        console.print(f"  [bold]{recipe.name:<11}[/] {recipe.description} [dim]({length})[/]")


def print_summary(console: Console, store: Path, folder: Path, seconds: dict[str, float]) -> None:
    """Where it ended, where the time went, and what to try next."""
    catalog = open_catalog(store, _named(folder))
    rows = catalog.sql(QUERIES["run_outcomes"]).fetchall()
    title = f"From generation 0 to generation {max(row[1] for row in rows)}"
    numbers = ("perplexity", "recalibrated", "rare words", "types", "repeats")
    ends = table("loop", *numbers, numbers=numbers)
    for run, generations, *pairs in rows:
        digits = (0, 0, 2, 0, 2)
        firsts, lasts = (
            [_number(*one) for one in zip(side, digits, strict=True)] for side in (pairs[::2], pairs[1::2])
        )
        cells = [f"{one} → {other}" for one, other in zip(firsts, lasts, strict=True)] if generations else firsts
        first, last = pairs[0], pairs[1]
        colour = "red" if last > 1.5 * first else "green" if last <= first and generations else "default"
        ends.add_row(run, f"[{colour}]{cells[0]}[/]", *cells[1:])
    console.print(f"\n[bold]{title}[/]")
    console.print(ends)
    console.print(
        "[dim]perplexity is on held-out human text; rare words: share of human words seen 2 to 10 times that are still said[/]"
    )
    if seconds:
        spent = ", ".join(
            f"{stage} {took:.0f} s" for stage, took in sorted(seconds.items(), key=lambda one: -one[1]) if took >= 0.5
        )
        console.print(f"[dim]where the time went, all loops together: {spent}[/]")
    console.print(f"report    {folder / 'report.html'}", markup=False, soft_wrap=True)
    console.print(
        f'try next  heirloom sql --store {store} "select generation, origin, count(*) from corpus group by all order by all"',
        markup=False,
        soft_wrap=True,
    )


def print_eval_exposure(console: Console, store: Path, dataset: str, name: str) -> None:
    """What had met an evaluation set before it was kept out."""
    found = open_catalog(store).execute(
        f"select found_in, run, generation, records, similarity, shared_run_words from ({QUERIES['eval_exposure']}) where dataset = ? and eval_set = ?",
        [dataset, name],
    )
    columns = [str(column[0]).replace("_", " ") for column in found.description]
    met = table(*columns, numbers=columns[2:])
    for row in found.fetchall():
        met.add_row(*("" if cell is None else f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    console.print(met if met.row_count else f"nothing in the store has met {name} so far")
    if met.row_count:
        console.print("these had met it before it was kept out; again at any time: heirloom query eval_exposure")


def _number(value: float, digits: int) -> str:
    """A number, in five characters or so where it is a large one: 54,432 is 54k."""
    for size, unit, more in ((1e9, "G", 1), (1e6, "M", 1), (1e3, "k", 0)):
        if value >= (1e4 if unit == "k" else size) and math.isfinite(value):
            return f"{value / size:,.{more}f}{unit}"
    return f"{value:,.{digits}f}"


def _named(folder: Path) -> list[str]:
    """Runs of the report in this folder: itself, or every run of the store."""
    return [folder.name] if (folder.parents[1] / "runs" / folder.name).exists() else []
