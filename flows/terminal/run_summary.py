"""Print the recipes before a run, and the outcome after it as one table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from flows.config.memory import plan_memory
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.console import format_bytes, table
from heirloom.commands import suggest
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from tasks.backends import PointTraining, TransformerTraining

_TOY_TRAINING = {"ngram": "n-gram counts", "gaussian-mixture": "Gaussian mixture", "vae": "autoencoder of points"}
_OUTCOME_DIGITS = {"perplexity": 0, "recalibrated": 0, "rare words": 2, "vocabulary": 0, "repetition": 2}
"""Columns of the outcome and their digits, in the order of the pairs in the query `run_outcomes`."""
_WORSE = 1.5
"""Ratio of last to first perplexity above which it is shown in red."""
_MIN_SHOWN_SECONDS = 0.5
_ANSWER_CHARS = 300
"""Characters of a showcase completion in the table."""


@dataclass(frozen=True)
class _Outcome:
    """A row of the query `run_outcomes`: metrics of generation 0 and of the last generation."""

    run: str
    last_generation: int
    first: tuple[float, ...]
    last: tuple[float, ...]

    @property
    def color(self) -> str:
        if self.last[0] > _WORSE * self.first[0]:
            return "red"
        return "green" if self.last[0] <= self.first[0] and self.last_generation else "default"

    def cells(self) -> list[str]:
        digits = _OUTCOME_DIGITS.values()
        firsts = [_format_number(value, places) for value, places in zip(self.first, digits, strict=True)]
        if not self.last_generation:
            return firsts
        lasts = [_format_number(value, places) for value, places in zip(self.last, digits, strict=True)]
        return [f"{first} → {last}" for first, last in zip(firsts, lasts, strict=True)]


def print_start(console: Console, recipes: Sequence[Recipe], passages: int) -> None:
    """Print the recipes that are about to run."""
    console.print(f"Loops on the same {passages:,} passages of human text, seed {recipes[0].seed}:")
    for recipe in recipes:
        console.print(f"  [bold]{recipe.name:<11}[/] {recipe.description} [dim]({_training_length(recipe)})[/]")


def print_base_model(console: Console, recipes: Sequence[Recipe], site: Site) -> None:
    """Print what loops do with their base model, what they are asked, and the memory that they need."""
    train, plan = recipes[0].train, plan_memory(recipes[0].resolve_auto(), site)
    if not isinstance(train, TransformerTraining) or plan is None:
        return
    resources = site.resources
    num_parallel = min(resources.num_train_workers, len(recipes))
    bfloat16 = "with" if plan.machine.bfloat16 else "without"
    console.print(
        f"Base model {train.base_model}: {plan.num_weights / 1e6:,.0f} million weights, "
        f"{recipes[0].num_generations + 1} trainings by a LoRA adapter of rank {train.lora_rank}.\n"
        f"{num_parallel} at a time, {resources.threads_per_worker} threads each, {bfloat16} bfloat16 in hardware; "
        f"memory needed: about {format_bytes(num_parallel * plan.needed)} of {format_bytes(plan.available)}.\n"
        f"Each generation completes {recipes[0].evaluate.showcase_prompt!r}. If interrupted, the same command resumes.",
        markup=False,
    )


def print_answers(console: Console, store: Path, runs: Sequence[str]) -> None:
    """Print what each generation answered to the showcase prompt, the runs side by side."""
    # Imported here, since reports load libraries that a plan does not need.
    from tasks.reporting.report import showcase_table
    from tasks.reporting.templating import shorten

    answers = showcase_table(open_catalog(store, runs), runs)
    rows = table(*answers.columns, numbers=answers.columns[:1])
    rows.padding = (0, 2, 1, 0)
    for generation, *texts in answers.rows:
        rows.add_row(str(generation), *(escape(shorten(text, _ANSWER_CHARS)) for text in texts))
    console.print("\n[bold]The same prompt, generation by generation[/]")
    console.print(rows)


def warn_without_filters(console: Console, recipe: Recipe) -> None:
    """Print a warning if no candidate of a recipe for texts can be dropped."""
    if recipe.curate.filters or isinstance(recipe.train, PointTraining):
        return
    console.print(
        f"[yellow]warning[/] {recipe.name}: `curate.filters` is empty, so every candidate is kept, including empty, "
        "repeated and copied text. To filter: "
        'add --set \'curate.filters=["empty", "exact", "quality", "minhash"]\'',
        soft_wrap=True,
    )


def print_summary(
    console: Console, store: Path, folder: Path, runs: Sequence[str], seconds: Mapping[str, float]
) -> None:
    """Print the outcome of the runs in a report, the seconds per stage, and what to do next.

    Args:
        console: where it is printed.
        store: folder of the store.
        folder: folder of the report.
        runs: names of the runs in the report.
        seconds: seconds by stage, all runs together.
    """
    catalog = open_catalog(store, runs)
    outcomes = [
        _Outcome(run, last_generation, tuple(pairs[::2]), tuple(pairs[1::2]))
        for run, last_generation, *pairs in catalog.sql(QUERIES["run_outcomes"]).fetchall()
    ]
    rows = table("run", *_OUTCOME_DIGITS, numbers=_OUTCOME_DIGITS)
    for outcome in outcomes:
        perplexity, *others = outcome.cells()
        rows.add_row(outcome.run, f"[{outcome.color}]{perplexity}[/]", *others)
    last_generation = max(outcome.last_generation for outcome in outcomes)
    console.print(f"\n[bold]From generation 0 to generation {last_generation}[/]")
    console.print(rows)
    console.print(
        "[dim]perplexity: on held-out human text; recalibrated: the same at the best temperature; rare words: fraction "
        "of the words with 2 to 10 occurrences in human text that are still generated[/]"
    )
    stages = sorted(seconds.items(), key=lambda item: -item[1])
    if stages:
        shown = ", ".join(f"{stage} {spent:.0f} s" for stage, spent in stages if spent >= _MIN_SHOWN_SECONDS)
        console.print(f"[dim]time, all runs together: {shown}[/]")
    console.print(f"report    {folder / 'report.html'}", markup=False, soft_wrap=True)
    console.print(
        "try next  " + suggest("sql", "select generation, origin, count(*) from corpus group by all order by all"),
        markup=False,
        soft_wrap=True,
    )


def print_eval_exposure(console: Console, store: Path, dataset: str, name: str) -> None:
    """Print which datasets and corpora overlapped with an evaluation set before it was added."""
    result = open_catalog(store).execute(
        "select found_in, run, generation, records, similarity, shared_run_words "
        f"from ({QUERIES['eval_exposure']}) where dataset = ? and eval_set = ?",
        [dataset, name],
    )
    columns = [str(column[0]).replace("_", " ") for column in result.description]
    exposures = table(*columns, numbers=columns[2:])
    for row in result.fetchall():
        exposures.add_row(*map(_format_cell, row))
    if not exposures.row_count:
        console.print(f"No record in the store overlaps with {name}.")
        return
    console.print(exposures)
    console.print(
        f"These overlapped with it before it was added. Show them again with: {suggest('query', 'eval_exposure')}",
        markup=False,
        soft_wrap=True,
    )


def _training_length(recipe: Recipe) -> str:
    train = recipe.train
    if not isinstance(train, TransformerTraining):
        return _TOY_TRAINING[train.backend]
    first = (
        f"{train.generation_0_max_steps} steps on human text"
        if train.generation_0_max_steps
        else "none for generation 0"
    )
    return f"{first}, then {train.max_steps} a generation" if recipe.num_generations else first


def _format_cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _format_number(value: float, digits: int) -> str:
    """Format a number; from 10,000 on in thousands, millions or billions, as 54,432 in 54k."""
    if math.isfinite(value):
        if value >= 1e9:
            return f"{value / 1e9:,.1f}G"
        if value >= 1e6:
            return f"{value / 1e6:,.1f}M"
        if value >= 1e4:
            return f"{value / 1e3:,.0f}k"
    return f"{value:,.{digits}f}"
