"""What a generation has made by the time it is measured: the artifacts, samples of their records, and rows of metrics."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.metrics.settings import Measured, MeasureSettings
from storage.artifacts.artifact import Artifact, as_made, read_table
from storage.artifacts.ids import seed_of
from storage.runs.run import Attempt
from tasks.orchestration.progress import logger


@dataclass(frozen=True)
class Made:
    """What a generation has made by the time it is measured, and what it is held against."""

    model: Artifact
    corpus: Artifact
    reserve: Artifact
    heldout: Artifact
    candidates: Artifact | None = None
    learned: Artifact | None = None
    """The corpus that the speaker of the candidates learned from."""
    first: Attempt | None = None
    """Generation 0, unless it is this one."""

    @property
    def parents(self) -> dict[str, Artifact]:
        """By their names, those that are there."""
        found = {
            name: getattr(self, name) for name in ("model", "corpus", "heldout", "reserve", "candidates", "learned")
        }
        if self.first:
            found |= {f"first_{name}": as_made(self.first.folder / name) for name in ("model", "voice", "scores")}
        return {name: artifact for name, artifact in found.items() if artifact}


def sampled(table: pa.Table, most: int) -> pa.Table:
    """So many records, chosen by their ids alone, so that the samples of two tables share the records that these share."""
    if table.num_rows <= most:
        return table
    order = sorted(range(table.num_rows), key=lambda row: seed_of("sample", table["id"][row].as_py()))
    return table.take(sorted(order[:most]))


def largest_sources(made: Made, settings: MeasureSettings) -> list[str]:
    """The sources of human text that are measured by themselves: none where there is but one."""
    counts = Counter(read_table(made.reserve.folder, ["source"])["source"].to_pylist())
    if len(counts) < 2:
        return []
    if len(counts) > settings.sources > 0:
        logger.info("%d of %d sources are measured by themselves: measure.sources", settings.sources, len(counts))
    return [source for source, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[: settings.sources]]


def rows_of(subject: str, measured: Sequence[Measured], source: str = "all") -> list[dict[str, object]]:
    """A row a metric; what is no number is null."""
    return [
        {
            "subject": subject,
            "metric": one.metric,
            "source": source,
            "value": _number(one.value),
            "low": _number(one.low),
            "high": _number(one.high),
            "sample_size": one.sample_size,
        }
        for one in measured
    ]


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
