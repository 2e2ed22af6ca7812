"""What is to be expected of a generation by mixing and sampling alone, published beside what is measured of it."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from curation.forecast.simulation import ForecastPoint, LoopSpec, simulate_forecast
from curation.metrics.ngram_counts import take_words, word_counts
from curation.metrics.settings import EvalSettings
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.schemas import FORECAST
from storage.runs.run import Attempt
from tasks.evaluation.text_metrics import shuffled_words
from tasks.orchestration.prefect import task


@task
def forecast(attempt: Attempt, human_train: Artifact, settings: EvalSettings, loop: LoopSpec, seed: int) -> Artifact:
    """Publish the forecast for this generation."""
    identity = {
        "words": settings.vocab_sample_words,
        "seed": seed,
        **asdict(loop),
        "mix": loop.mix.model_dump(mode="json"),
    }
    artifact = attempt.artifact("forecast", identity, human_train=human_train)
    if artifact.exists():
        return artifact
    with artifact.draft() as draft:
        told = forecast_generations(human_train, settings, loop, [attempt.generation], seed)
        draft.write_part(pa.Table.from_pylist([asdict(one) for one in told], schema=FORECAST))
    return artifact


def forecast_generations(
    human_train: Artifact, settings: EvalSettings, loop: LoopSpec, generations: Sequence[int], seed: int
) -> list[ForecastPoint]:
    """The forecast for some generations, from the human text that is there."""
    table = read_table(human_train.folder, ["text"])
    human, sample = word_counts(
        take_words(table["text"].to_pylist(), 2**62), shuffled_words(table, settings.vocab_sample_words)
    )
    return simulate_forecast(human, sample, table.num_rows, loop, generations, derive_seed(seed, "forecast"))
