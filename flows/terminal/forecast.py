"""What a recipe will do, told before anything runs: coverage and drift by generation, the human share a goal takes, cost."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from curation.forecast.closed_form import human_fraction_needed
from curation.forecast.simulation import FORECAST_METRICS, ForecastPoint
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.console import table
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import load_artifact, read_manifest, read_table
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import runs
from storage.runs.status import attempt_summaries
from tasks.backends import TransformerTraining
from tasks.evaluation.forecast import forecast_generations
from tasks.reporting.plots import MetricPoint, plot_forecast

_TOKENS_PER_WORD = 1.5
_MODEL = {"backend", "hidden_size", "num_hidden_layers", "num_components", "latent_size", "order"}
"""What of its settings says how much work a model is."""


def parse_share(text: str) -> float:
    """A share, written as `95%` or `0.95`.

    Raises:
        HeirloomError: it is neither, or not between 0 and 1.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise HeirloomError(f"--min-coverage {text} is no share between 0 and 1; write it as 95% or 0.95")
    return share


def print_forecast(
    console: Console,
    recipe: Recipe,
    site: Site,
    min_coverage: float,
    word_count: int,
    generations: int,
    plot: Path | None,
) -> None:
    """Print the forecast, and draw it where a picture is named.

    Raises:
        HeirloomError: nothing of the recipe's human text was ingested.
    """
    store = site.synced().store
    reserve = load_artifact(human_folder(store, recipe.dataset, newest_snapshot(store, recipe.dataset)) / "human_train")
    told = forecast_generations(recipe, reserve, range(recipe.num_generations + 1))
    console.print(
        f"[bold]{recipe.name}[/] policy {recipe.mix.policy}, temperature {recipe.generate.temperature:g}",
        soft_wrap=True,
    )
    console.print(_table(told))
    console.print(
        "[dim]of what a model says, by mixing and sampling alone: what curation drops and what a model gets wrong come on top[/]"
    )
    sampling = recipe.generate
    if sampling.temperature != 1 or sampling.top_p < 1:
        bias = "narrows" if sampling.temperature <= 1 else "spreads" if sampling.top_p == 1 else "changes"
        console.print(
            f"[yellow]sampling is biased[/]: every round {bias} what the next learns from. How much depends on the model; this is how it goes with words",
            soft_wrap=True,
        )
    console.print(_share(min_coverage, word_count, generations), soft_wrap=True)
    console.print(_cost(recipe, site, reserve.folder), soft_wrap=True)
    if plot:
        points = [MetricPoint(recipe.name, point.generation, point.metric, point.value) for point in told]
        plot_forecast(points, [], plot)
        console.print(f"picture {plot}", markup=False, soft_wrap=True)


def _table(told: Sequence[ForecastPoint]) -> Table:
    columns = ("generation", *(name.replace("_", "\n") for name in FORECAST_METRICS))
    course = table(*columns, numbers=columns)
    values = {(one.generation, one.metric): one.value for one in told}
    for generation in sorted({one.generation for one in told}):
        course.add_row(str(generation), *(f"{values[generation, metric]:.3f}" for metric in FORECAST_METRICS))
    return course


def _share(keep: float, seen: int, through: int) -> str:
    goal = f"to keep {keep:.0%} of the words that people say {seen} times"
    try:
        needed, lasting = human_fraction_needed(seen, keep, through), human_fraction_needed(seen, keep)
    except ValueError as error:
        return f"{goal}: no human share does it; {error}"
    return (
        f"{goal} in corpora of the reserve's size takes a human share of {needed:.1%} for {through} generations, {lasting:.1%} for ever "
        f"(mix.policy = 'fixed-fraction', unbiased sampling)"
    )


def _cost(recipe: Recipe, site: Site, reserve: Path) -> str:
    records = read_manifest(reserve)["rows"]
    candidates = round(records * recipe.prompts.prompts_per_human_record)
    texts = read_table(reserve, ["text"])["text"].to_pylist()[:2000]
    words = statistics.mean(len(text.split()) for text in texts)
    spoken = round(candidates * min(recipe.generate.max_tokens, _TOKENS_PER_WORD * words)) * recipe.num_generations
    learned = _learned(recipe, records, words)
    said = f"about {spoken:,} tokens to speak and {learned:,} to learn from, in {recipe.num_generations} generations"
    model = recipe.train.model_dump(include=_MODEL)
    rates = [
        turn.work_seconds / turn.tokens
        for run in runs(site.store)
        if model.items() <= run.recipe()["train"].items()
        for turn in attempt_summaries(run)
        if turn.tokens and turn.verdict
    ]
    if not rates:
        return f"{said}; no run of this store has trained such a model yet, so no time can be told"
    return f"{said}: about {(spoken + learned) * statistics.median(rates):,.0f} s at the pace of {len(rates)} generations of this store"


def _learned(recipe: Recipe, records: int, words: float) -> int:
    """Tokens that all trainings together see, where curation drops nothing."""
    train, candidates = recipe.train, records * recipe.prompts.prompts_per_human_record
    passes = 1.0
    if isinstance(train, TransformerTraining):
        if train.max_tokens:
            return train.max_tokens * (recipe.num_generations + 1)
        if not train.num_epochs:
            return (
                (train.generation_0_max_steps + train.max_steps * recipe.num_generations)
                * train.batch_size
                * train.context_length
            )
        passes = train.num_epochs
    corpora = {
        "replace": lambda _: candidates,
        "accumulate": lambda generation: records + generation * candidates,
        "anchor": lambda _: records + candidates,
    }
    mixed = corpora.get(recipe.mix.policy, lambda _: recipe.mix.num_records or records)
    seen = records + sum(mixed(generation) for generation in range(1, recipe.num_generations + 1))
    return round(passes * seen * words * _TOKENS_PER_WORD)
