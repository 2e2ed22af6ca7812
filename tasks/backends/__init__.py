"""Who learns and speaks: the contract that every backend keeps, and the settings that steer it.

Text and folders only. A backend knows neither Prefect nor the store; it reads texts, writes a model
folder, and answers with completions and log-likelihoods.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import Field

from tasks.backends.speaking import OWN as OWN
from tasks.backends.speaking import Resources as Resources
from tasks.backends.speaking import Sampling as Sampling
from tasks.backends.speaking import Settings as Settings

Progress = Callable[[int, int], None]
"""Told how much of how much is done, while it is being done."""


class TransformerTraining(Settings):
    """`[train]` with `backend = "transformer"`: a Llama-shaped model trained from scratch each generation."""

    backend: Literal["transformer"] = "transformer"
    steps: int = Field(260, ge=1, description="optimiser steps of every training after generation 0")
    human_only_steps: int = Field(130, ge=1, description="optimiser steps of generation 0, which sees human text alone")
    human_schedule: Literal["constant", "ramp"] = Field(
        "constant", description="how the human share of training tokens runs: as the corpus has it, or from none to all"
    )
    stop_early: bool = Field(False, description="keep the model of the best held-out loss instead of the last one")
    hidden: int = Field(128, ge=32, description="width of the model")
    layers: int = Field(2, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads; hidden / heads must suit vLLM (32, 64, 80, 96, 128, ...)")
    context: int = Field(128, ge=16, description="tokens a model sees at once")
    vocabulary: int = Field(2048, ge=300, description="size of the byte-level BPE learned from the reserve")
    batch: int = Field(8, ge=1, description="packed sequences in a step")
    learning_rate: float = Field(0.02, gt=0, description="peak learning rate of Muon on the matrices")
    embedding_learning_rate: float = Field(0.003, gt=0, description="peak learning rate of AdamW on everything else")
    weight_decay: float = Field(0.3, ge=0, description="decoupled weight decay")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on attention weights")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="arithmetic of training; auto takes bfloat16 where the core has it"
    )


class NgramTraining(Settings):
    """`[train]` with `backend = "ngram"`: counts words; learns in a second, collapses in five generations."""

    backend: Literal["ngram"] = "ngram"
    order: int = Field(3, ge=1, le=5, description="words in the longest run that is counted")


Training = Annotated[TransformerTraining | NgramTraining, Field(discriminator="backend")]


@dataclass(frozen=True)
class Prompt:
    """What one candidate is asked for: the words it starts from, and the seed of its own dice."""

    text: str
    seed: int


@dataclass(frozen=True)
class Completion:
    """What came back, in the order of the prompts.

    `finish_reason` is `stop`, `length` where the text was cut, `invalid` where it breaks the schema, or a server's own word.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    log_probability: float | None
    """In nats under the unmodified model; None from a server that does not say."""
    teacher: str = ""
    """Who a server says it was, where it was not the generation's own model."""


@dataclass(frozen=True)
class Score:
    """Negative log-likelihood of one text in nats, at each temperature asked for."""

    tokens: int
    nats: tuple[float, ...]


@dataclass(frozen=True)
class Lesson:
    """What a training reports: counts of tokens seen, and the loss curve as (step, loss, held-out loss or None)."""

    tokens: int
    human_tokens: int
    steps: int
    seconds: float
    losses: tuple[tuple[int, float, float | None], ...]


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from, with their origins apart, so that a schedule can tell them apart."""

    human: Sequence[str]
    synthetic: Sequence[str]


class Trainer(Protocol):
    """Learns from texts and leaves a model folder."""

    def train(
        self, corpus: Corpus, heldout: Sequence[str], ancestor: Path | None, folder: Path, seed: int, progress: Progress
    ) -> Lesson:
        """Write a model to the empty `folder`; `ancestor` is generation 0's model, whose vocabulary stays."""
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
