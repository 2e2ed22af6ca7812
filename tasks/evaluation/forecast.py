"""Forecast the effect of mixing and sampling alone on a generation, to compare with its measured metrics."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from curation.forecast.simulation import ForecastPoint, HumanWords, LoopSpec, simulate_forecast
from curation.metrics.ngram_counts import take_words, word_counts
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.schemas import FORECAST
from tasks.context import HumanData, StageContext, StageRecipe
from tasks.evaluation.text_metrics import shuffled_words
from tasks.orchestration.prefect import task


@task
def forecast(ctx: StageContext, human: HumanData) -> Artifact:
    """Publish the forecast of this generation."""
    settings, loop, seed = ctx.recipe.evaluate, loop_spec(ctx.recipe), ctx.recipe.seed
    identity = {
        "words": settings.vocab_sample_words,
        "seed": seed,
        **asdict(loop),
        "mix": loop.mix.model_dump(mode="json"),
    }
    artifact = ctx.attempt.artifact("forecast", identity, human_train=human.train)
    if artifact.exists():
        return artifact
    with artifact.draft() as draft:
        points = forecast_generations(ctx.recipe, human.train, [ctx.attempt.generation])
        draft.write_part(pa.Table.from_pylist([asdict(point) for point in points], schema=FORECAST))
    return artifact


def loop_spec(recipe: StageRecipe) -> LoopSpec:
    """Select the settings that a forecast depends on."""
    sampling = recipe.generate
    return LoopSpec(recipe.mix, recipe.prompts.prompts_per_human_record, sampling.temperature, sampling.top_p)


def forecast_generations(recipe: StageRecipe, human_train: Artifact, generations: Sequence[int]) -> list[ForecastPoint]:
    """Simulate some generations of a recipe on the words of the human training pool."""
    table = read_table(human_train.folder, ["text"])
    train, sample = word_counts(
        take_words(table["text"].to_pylist(), 2**62), shuffled_words(table, recipe.evaluate.vocab_sample_words)
    )
    seed = derive_seed(recipe.seed, "forecast")
    human = HumanWords(train=train, sample=sample, num_records=table.num_rows)
    return simulate_forecast(human, loop_spec(recipe), generations, seed)
