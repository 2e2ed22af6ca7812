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
from tasks.orchestration.progress import logger


@dataclass(frozen=True)
class EvalInputs:
    """What a generation has made by the time it is measured, and what it is held against."""

    model: Artifact
    corpus: Artifact
    human_train: Artifact
    human_heldout: Artifact
    candidates: Artifact | None = None
    previous_corpus: Artifact | None = None
    """The corpus that the speaker of the candidates learned from."""
    gen0_attempt: Attempt | None = None
    """Generation 0, unless it is this one."""

    @property
    def parents(self) -> dict[str, Artifact]:
        """By their names, those that are there."""
        found = {
            name: getattr(self, name)
            for name in ("model", "corpus", "human_heldout", "human_train", "candidates", "previous_corpus")
        }
        if self.gen0_attempt:
            found |= {
                f"gen0_{name}": load_artifact(self.gen0_attempt.folder / name)
                for name in ("model", "eval_samples", "scores")
            }
        return {name: artifact for name, artifact in found.items() if artifact}


def sample_by_id(table: pa.Table, most: int) -> pa.Table:
    """So many records, chosen by their ids alone, so that the samples of two tables share the records that these share."""
    if table.num_rows <= most:
        return table
    order = sorted(range(table.num_rows), key=lambda row: derive_seed("sample", table["id"][row].as_py()))
    return table.take(sorted(order[:most]))


def top_sources(eval_inputs: EvalInputs, settings: EvalSettings) -> list[str]:
    """The sources of human text that are measured by themselves: none where there is but one."""
    counts = Counter(read_table(eval_inputs.human_train.folder, ["source"])["source"].to_pylist())
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
