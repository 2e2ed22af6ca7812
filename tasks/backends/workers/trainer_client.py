"""Trains in a worker process of the backend's own module, and scores there or on the engines of a cluster.

A model is scored by the same batches wherever that is done. Beside a training no engine lives: both want the card.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.backends.settings.training import Training
from tasks.backends.types import Progress, Score, TrainingResult, TrainJob
from tasks.backends.workers.ray_cluster import TRAINING

if TYPE_CHECKING:
    from tasks.backends.registry import Backends

_TEXTS = 4096
"""Texts that are scored as one piece; no batch is of two."""


@dataclass(frozen=True)
class TrainerClient:
    """Trains in worker processes."""

    backends: "Backends"

    def train(self, job: TrainJob[Training], progress: Progress) -> TrainingResult:
        """Train in a worker process, after the engines of the cluster have released their GPUs.

        Raises:
            HeirloomError: the backend refused the job.
            WorkerError: the worker process failed.
        """
        job = replace(job, resources=self.backends.resources)
        engines = self.backends.engines
        with (
            self.backends.lease(trainer_module(job.settings), None) as worker,
            engines.reserve_gpus(TRAINING) if engines else contextlib.nullcontext(),
        ):
            result: TrainingResult = worker.call("train", progress, job)
            return result


@dataclass(frozen=True)
class ScorerClient:
    """Scores texts in worker processes, or on engines of a cluster."""

    backends: "Backends"
    training: Training

    def score(
        self, model: Path, texts: Sequence[str], temperatures: Sequence[float], progress: Progress
    ) -> list[Score]:
        """Negative log-likelihood of each text at each temperature, in order."""
        module, pieces = trainer_module(self.training), [texts[at : at + _TEXTS] for at in range(0, len(texts), _TEXTS)]
        if engines := self.backends.engines:
            asked = [(model.resolve(), some, temperatures) for some in pieces]
            return list(engines.map(module, "score", asked, len(texts), progress))
        scores: list[Score] = []
        with self.backends.lease(module, None) as worker:
            for some in pieces:
                scores += worker.call("score", _behind(progress, len(scores), len(texts)), model, some, temperatures)
        return scores


def _behind(progress: Progress, done: int, of: int) -> Progress:
    return lambda some, _: progress(done + some, of)


def trainer_module(training: Training) -> str:
    """The backend module that learns and scores."""
    return training.backend.replace("-", "_")
