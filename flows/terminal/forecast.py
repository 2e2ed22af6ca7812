"""Print the forecast of a recipe: coverage and drift by generation, the human share for a goal, and the cost."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
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
_LENGTH_SAMPLE = 2000
"""Number of human texts whose mean length estimates the length of candidates."""
_MODEL_KEYS = {"backend", "hidden_size", "num_hidden_layers", "num_components", "latent_size", "order"}
"""Keys of `[train]` that determine the time per token."""


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
    console.print(_cost_sentence(recipe, site, human_train.folder), soft_wrap=True)
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


def _cost_sentence(recipe: Recipe, site: Site, human_train: Path) -> str:
    num_records = read_manifest(human_train)["rows"]
    num_candidates = round(num_records * recipe.prompts.prompts_per_human_record)
    texts = read_table(human_train, ["text"])["text"].to_pylist()[:_LENGTH_SAMPLE]
    words_per_text = statistics.mean(len(text.split()) for text in texts)
    tokens_per_text = min(recipe.generate.max_tokens, _TOKENS_PER_WORD * words_per_text)
    generated = round(num_candidates * tokens_per_text) * recipe.num_generations
    trained = _training_tokens(recipe, num_records, words_per_text)
    cost = (
        f"Cost: about {generated:,} tokens to generate and {trained:,} tokens to train on, "
        f"in {recipe.num_generations} generations"
    )
    rates = _seconds_per_token(recipe, site.store)
    if not rates:
        return f"{cost}. No run in this store has trained such a model, so the time is unknown."
    seconds = (generated + trained) * statistics.median(rates)
    return f"{cost}; about {seconds:,.0f} s at the median speed of {len(rates)} generations in this store."


def _seconds_per_token(recipe: Recipe, store: Path) -> list[float]:
    """Return the rate of every finished attempt in the store that has trained a model of the same size."""
    model = recipe.train.model_dump(include=_MODEL_KEYS)
    return [
        attempt.work_seconds / attempt.tokens
        for run in runs(store)
        if model.items() <= run.recipe()["train"].items()
        for attempt in attempt_summaries(run)
        if attempt.tokens and attempt.verdict
    ]


def _training_tokens(recipe: Recipe, num_records: int, words_per_text: float) -> int:
    """Return the number of tokens that all trainings see together, if no filter drops a candidate."""
    train = recipe.train
    num_epochs = 1.0
    if isinstance(train, TransformerTraining):
        if train.max_tokens:
            return train.max_tokens * (recipe.num_generations + 1)
        if not train.num_epochs:
            steps = train.generation_0_max_steps + train.max_steps * recipe.num_generations
            # Without a length of its own a training has that of the base model, which records hardly ever fill.
            row_tokens = train.context_length or round(words_per_text * _TOKENS_PER_WORD)
            return steps * train.batch_size * row_tokens
        num_epochs = train.num_epochs
    num_seen = num_records + sum(
        _corpus_size(recipe, num_records, generation) for generation in range(1, recipe.num_generations + 1)
    )
    return round(num_epochs * num_seen * words_per_text * _TOKENS_PER_WORD)


def _corpus_size(recipe: Recipe, num_records: int, generation: int) -> float:
    """Return the number of records in the corpus of a generation."""
    num_candidates = num_records * recipe.prompts.prompts_per_human_record
    match recipe.mix.policy:
        case "replace":
            return num_candidates
        case "accumulate":
            return num_records + generation * num_candidates
        case "anchor":
            return num_records + num_candidates
        case _:
            return recipe.mix.num_records or num_records
