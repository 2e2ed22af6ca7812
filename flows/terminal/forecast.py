"""Print the forecast of a recipe: coverage and drift by generation, the human share for a goal, and the cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from curation.forecast.closed_form import human_fraction_needed
from curation.forecast.simulation import FORECAST_METRICS, ForecastPoint
from flows.config.cost import RunCost, estimate_cost
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.console import format_seconds, table
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import load_artifact
from storage.datasets.snapshots import human_folder, newest_snapshot
from tasks.evaluation.forecast import forecast_generations
from tasks.reporting.plots import MetricPoint, plot_forecast


@dataclass(frozen=True, kw_only=True)
class ForecastGoal:
    """A goal for which the required human share is computed."""

    min_coverage: float
    """Fraction of the tracked words that must survive."""
    word_count: int
    """Track words that occur this often in the human text."""
    generations: int
    """Number of generations."""


def parse_share(text: str) -> float:
    """Parse a fraction that is written as `95%` or `0.95`.

    Raises:
        HeirloomError: it is neither, or not between 0 and 1.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise HeirloomError(f"`--min-coverage {text}` is not a fraction between 0 and 1. Write it as 0.95 or 95%.")
    return share


def print_forecast(console: Console, recipe: Recipe, site: Site, goal: ForecastGoal, plot: Path | None) -> None:
    """Print the forecast, and plot it if a file is given.

    Raises:
        HeirloomError: the dataset of the recipe is not ingested.
    """
    store = site.synced().store
    snapshot = newest_snapshot(store, recipe.dataset)
    human_train = load_artifact(human_folder(store, recipe.dataset, snapshot) / "human_train")
    points = forecast_generations(recipe, human_train, range(recipe.num_generations + 1))
    sampling = recipe.generate
    console.print(
        f"[bold]{recipe.name}[/] policy {recipe.mix.policy}, temperature {sampling.temperature:g}", soft_wrap=True
    )
    console.print(_forecast_table(points))
    console.print(
        "[dim]Effect of mixing and sampling on generated text. Losses by filters and by model errors are not "
        "included.[/]",
        soft_wrap=True,
    )
    if sampling.temperature != 1 or sampling.top_p < 1:
        console.print(
            f"[yellow]Sampling is biased[/]: each generation {_bias(sampling.temperature, sampling.top_p)} the "
            "distribution that the next one is trained on. The forecast applies the bias to words; a model's own can "
            "differ.",
            soft_wrap=True,
        )
    console.print(_goal_sentence(goal), soft_wrap=True)
    console.print(_cost_sentence(recipe, estimate_cost(recipe, site, human_train.folder)), soft_wrap=True)
    if plot:
        plotted = [MetricPoint(recipe.name, point.generation, point.metric, point.value) for point in points]
        plot_forecast(plotted, [], plot)
        console.print(f"plot {plot}", markup=False, soft_wrap=True)


def _forecast_table(points: Sequence[ForecastPoint]) -> Table:
    columns = ("generation", *(name.replace("_", "\n") for name in FORECAST_METRICS))
    rows = table(*columns, numbers=columns)
    values = {(point.generation, point.metric): point.value for point in points}
    for generation in sorted({point.generation for point in points}):
        rows.add_row(str(generation), *(f"{values[generation, metric]:.3f}" for metric in FORECAST_METRICS))
    return rows


def _bias(temperature: float, top_p: float) -> str:
    if temperature <= 1:
        return "narrows"
    return "spreads" if top_p == 1 else "changes"


def _goal_sentence(goal: ForecastGoal) -> str:
    aim = f"Goal: {goal.min_coverage:.0%} of the words that occur {goal.word_count} times in the human text survive"
    try:
        needed = human_fraction_needed(goal.word_count, goal.min_coverage, goal.generations)
        lasting = human_fraction_needed(goal.word_count, goal.min_coverage)
    except HeirloomError as error:
        return f"{aim}. No human share reaches it: {error}"
    return (
        f"{aim}. It requires a human share of {needed:.1%} for {goal.generations} generations and of {lasting:.1%} "
        "without limit, in corpora of the size of the human training split "
        "(mix.policy = 'fixed-fraction', unbiased sampling)."
    )


def _cost_sentence(recipe: Recipe, cost: RunCost) -> str:
    tokens = (
        f"Cost: about {cost.generated_tokens:,} tokens to generate and {cost.trained_tokens:,} tokens to train on, "
        f"in {recipe.num_generations} generations"
    )
    if cost.seconds is None:
        return f"{tokens}. No run in this store has trained such a model, so the time is unknown."
    price = f", at a price of about {cost.price:,.2f}" if cost.price else ""
    return (
        f"{tokens}; about {format_seconds(cost.seconds)} at the median speed of {cost.num_rates} generations in this "
        f"store{price}."
    )
