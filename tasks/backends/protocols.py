"""Protocols that every backend implements: trainer, sampler and scorer."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tasks.backends.settings.training import Training
from tasks.backends.types import Completion, Progress, Prompt, Score, Text, TrainingResult, TrainJob


class Trainer(Protocol):
    """Trains models."""

    def train(self, job: TrainJob[Training], progress: Progress) -> TrainingResult:
        """Train a model and write it to `job.folder`.

        Raises:
            HeirloomError: the corpus is empty or too small, or a model that the job names cannot be read.
        """
        ...


class Sampler(Protocol):
    """Samples completions from a model."""

    def sample(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        """Yield one completion for each prompt, in order."""
        ...


class Scorer(Protocol):
    """Computes the likelihood of texts under a model."""

    def score(
        self, model: Path, texts: Sequence[Text], temperatures: Sequence[float], progress: Progress
    ) -> list[Score]:
        """Return the negative log-likelihood of each text, or of a conversation's responses, at each temperature."""
        ...
