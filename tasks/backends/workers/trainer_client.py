"""Train in worker processes, and score texts there or on the engines of a Ray cluster.

Texts are scored in the same batches in both places, so the scores are equal. No engine runs during a training, since
both need the GPU.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.backends.settings.training import Training
from tasks.backends.types import Progress, Score, Text, TrainingResult, TrainJob
from tasks.backends.workers.pool import WorkerPool
from tasks.backends.workers.ray_cluster import TRAINING, RayEngines

_TEXTS_PER_CALL = 4096
"""Texts that are scored by one call. No batch spans two calls."""


@dataclass(frozen=True, kw_only=True)
class TrainerClient:
    """A `Trainer` that runs each job in a worker process."""

    pool: WorkerPool
    engines: RayEngines | None = None

    def train(self, job: TrainJob[Training], progress: Progress) -> TrainingResult:
        """Train in a worker process, after the engines of the cluster have released their GPUs.

        Raises:
            HeirloomError: the backend refused the job.
            WorkerError: the worker process failed.
        """
        job = replace(job, resources=self.pool.resources)
        with (
            self.pool.lease(trainer_module(job.settings), None) as worker,
            self.engines.reserve_gpus(TRAINING) if self.engines else contextlib.nullcontext(),
        ):
            result: TrainingResult = worker.call("train", progress, job)
            return result


@dataclass(frozen=True, kw_only=True)
class ScorerClient:
    """A `Scorer` for models that were trained with these settings."""

    training: Training
    pool: WorkerPool
    engines: RayEngines | None = None

    def score(
        self, model: Path, texts: Sequence[Text], temperatures: Sequence[float], progress: Progress
    ) -> list[Score]:
        """Return the negative log-likelihood of each text at each temperature, in order."""
        module = trainer_module(self.training)
        pieces = [texts[start : start + _TEXTS_PER_CALL] for start in range(0, len(texts), _TEXTS_PER_CALL)]
        if self.engines:
            calls = [(model.resolve(), piece, temperatures) for piece in pieces]
            return list(self.engines.map(module, "score", calls, len(texts), progress))
        scores: list[Score] = []
        with self.pool.lease(module, None) as worker:
            for piece in pieces:
                piece_progress = _offset_progress(progress, len(scores), len(texts))
                scores += worker.call("score", piece_progress, model, piece, temperatures)
        return scores


def trainer_module(training: Training) -> str:
    """Return the name of the backend module that trains and scores with these settings."""
    return training.backend.replace("-", "_")


def _offset_progress(progress: Progress, num_done: int, total: int) -> Progress:
    def report(done: int, _: int) -> None:
        progress(num_done + done, total)

    return report
