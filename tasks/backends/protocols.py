"""Protocols that every backend implements: trainer, sampler and scorer."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tasks.backends.types import Completion, Progress, Prompt, Score, Text, TrainingCorpus, TrainingResult


class Trainer(Protocol):
    """Learns from texts and leaves a model folder."""

    def train(
        self,
        corpus: TrainingCorpus,
        heldout: Sequence[Text],
        gen0_model: Path | None,
        folder: Path,
        seed: int,
        progress: Progress,
        initial_weights: Path | str | None = None,
    ) -> TrainingResult:
        """Write a model to `folder`, which is empty or holds what a killed training of the same left there.

        `gen0_model` is generation 0's model, whose vocabulary stays; `initial_weights` the model whose weights are gone on with,
        a folder or a name, none for a training from scratch.
        """
        ...


class Sampler(Protocol):
    """Speaks for one model."""

    def sample(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        """Yield one completion a prompt, in order."""
        ...


class Scorer(Protocol):
    """Says how likely texts are under one model."""

    def score(
        self, model: Path, texts: Sequence[str], temperatures: Sequence[float], progress: Progress
    ) -> list[Score]:
        """Negative log-likelihood of each text at each temperature, in order."""
        ...
