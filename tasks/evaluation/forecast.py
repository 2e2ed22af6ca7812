"""What is to be expected of a generation by mixing and sampling alone, published beside what is measured of it."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from curation.forecast.simulation import Foretold, Loop, foretell
from curation.metrics.ngram_counts import first_words, tallies
from curation.metrics.settings import MeasureSettings
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import seed_of
from storage.artifacts.schemas import FORECAST
from storage.runs.run import Attempt
from tasks.evaluation.text_metrics import shuffled
from tasks.orchestration.prefect import verb


@verb
def forecast(attempt: Attempt, reserve: Artifact, settings: MeasureSettings, loop: Loop, seed: int) -> Artifact:
    """Publish the forecast for this generation."""
    identity = {"words": settings.sample_words, "seed": seed, **asdict(loop), "mix": loop.mix.model_dump(mode="json")}
    artifact = attempt.artifact("forecast", identity, reserve=reserve)
    if artifact.finished():
        return artifact
    with artifact.draft() as draft:
        told = foretell_of(reserve, settings, loop, [attempt.generation], seed)
        draft.write_part(pa.Table.from_pylist([asdict(one) for one in told], schema=FORECAST))
    return artifact


def foretell_of(
    reserve: Artifact, settings: MeasureSettings, loop: Loop, generations: Sequence[int], seed: int
) -> list[Foretold]:
    """The forecast for some generations, from the human text that is there."""
    table = read_table(reserve.folder, ["text"])
    human, sample = tallies(first_words(table["text"].to_pylist(), 2**62), shuffled(table, settings.sample_words))
    return foretell(human, sample, table.num_rows, loop, generations, seed_of(seed, "forecast"))
