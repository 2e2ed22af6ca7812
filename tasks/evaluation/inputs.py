"""Inputs of an evaluation, samples of their records, and rows of the metrics table."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from curation.metrics.settings import EvalSettings, Measured
from storage.artifacts.artifact import Artifact, load_artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.runs.run import Attempt
from tasks.context import CuratedCandidates, GenerationHistory, HumanData
from tasks.orchestration.progress import logger

MetricRow: TypeAlias = dict[str, object]
"""A row of the metrics table, by column."""


@dataclass(frozen=True, kw_only=True)
class EvalInputs:
    """Artifacts of one generation to evaluate, and the human data and generations to compare them with."""

    human: HumanData
    history: GenerationHistory
    corpus: Artifact
    model: Artifact
    curated: CuratedCandidates | None = None

    @property
    def candidates(self) -> Artifact | None:
        """Candidates of this generation; None in generation 0."""
        return self.curated.candidates if self.curated else None

    @property
    def previous_corpus(self) -> Artifact | None:
        """Corpus of the model that generated the candidates; None in generation 0."""
        return self.history.last.corpus if self.history.last else None

    @property
    def gen0_attempt(self) -> Attempt | None:
        """Attempt of generation 0; None in generation 0 itself."""
        return self.history.first.attempt if self.history.first else None

    @property
    def parents(self) -> dict[str, Artifact]:
        """Artifacts that the metrics depend on, by their names as parents in a manifest."""
        parents = {
            "model": self.model,
            "corpus": self.corpus,
            "human_heldout": self.human.heldout,
            "human_train": self.human.train,
        }
        if self.candidates:
            parents["candidates"] = self.candidates
        if self.curated and self.curated.check_results:
            parents["check_results"] = self.curated.check_results
        if self.previous_corpus:
            parents["previous_corpus"] = self.previous_corpus
        if self.gen0_attempt:
            for name in ("model", "eval_samples", "scores"):
                parents[f"gen0_{name}"] = load_artifact(self.gen0_attempt.folder / name)
        return parents


def sample_by_id(table: pa.Table, max_records: int) -> pa.Table:
    """Sample records by a hash of their ids, in table order.

    The choice depends on the id alone, so samples of two tables share those records that both tables have.
    """
    if table.num_rows <= max_records:
        return table
    ids = table["id"].to_pylist()
    by_hash = sorted(range(table.num_rows), key=lambda row: derive_seed("sample", ids[row]))
    return table.take(sorted(by_hash[:max_records]))


def top_sources(eval_inputs: EvalInputs, settings: EvalSettings) -> list[str]:
    """Return the largest sources of the human text, which get metrics of their own; none if there is one source."""
    counts = Counter(read_table(eval_inputs.human.train.folder, ["source"])["source"].to_pylist())
    if len(counts) < 2:
        return []
    if len(counts) > settings.num_sources > 0:
        logger.info(
            "%d of %d sources are evaluated separately: `evaluate.num_sources`", settings.num_sources, len(counts)
        )
    by_size = sorted(counts, key=lambda source: (-counts[source], source))
    return by_size[: settings.num_sources]


def metric_rows(subject: str, metrics: Sequence[Measured], source: str = "all") -> list[MetricRow]:
    """Return a row for each metric; values that are not finite are null."""
    return [
        {
            "subject": subject,
            "metric": metric.metric,
            "source": source,
            "value": _finite(metric.value),
            "low": _finite(metric.low),
            "high": _finite(metric.high),
            "sample_size": metric.sample_size,
        }
        for metric in metrics
    ]


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
