"""What a generation has made by the time it is measured: the artifacts, samples of their records, and rows of metrics."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.metrics.settings import EvalSettings, Measured
from storage.artifacts.artifact import Artifact, load_artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.runs.run import Attempt
from tasks.context import CuratedCandidates, GenerationHistory, HumanData
from tasks.orchestration.progress import logger


@dataclass(frozen=True, kw_only=True)
class EvalInputs:
    """Artifacts of one generation that an evaluation measures, and the human data and generations that it compares with."""

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
        if self.previous_corpus:
            parents["previous_corpus"] = self.previous_corpus
        if self.gen0_attempt:
            for name in ("model", "eval_samples", "scores"):
                parents[f"gen0_{name}"] = load_artifact(self.gen0_attempt.folder / name)
        return parents


def sample_by_id(table: pa.Table, most: int) -> pa.Table:
    """So many records, chosen by their ids alone, so that the samples of two tables share the records that these share."""
    if table.num_rows <= most:
        return table
    order = sorted(range(table.num_rows), key=lambda row: derive_seed("sample", table["id"][row].as_py()))
    return table.take(sorted(order[:most]))


def top_sources(eval_inputs: EvalInputs, settings: EvalSettings) -> list[str]:
    """The sources of human text that are measured by themselves: none where there is but one."""
    counts = Counter(read_table(eval_inputs.human.train.folder, ["source"])["source"].to_pylist())
    if len(counts) < 2:
        return []
    if len(counts) > settings.num_sources > 0:
        logger.info(
            "%d of %d sources are measured by themselves: evaluate.num_sources", settings.num_sources, len(counts)
        )
    return [source for source, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[: settings.num_sources]]


def metric_rows(subject: str, measured: Sequence[Measured], source: str = "all") -> list[dict[str, object]]:
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
