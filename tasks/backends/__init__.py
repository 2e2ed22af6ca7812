"""Who learns and speaks: the contract that every backend keeps, and the settings that steer it.

Text and folders only. A backend knows neither Prefect nor the store; it reads texts, writes a model
folder, and answers with completions and log-likelihoods.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from tasks.backends.learning import GaussianMixtureTraining as GaussianMixtureTraining
from tasks.backends.learning import NgramTraining as NgramTraining
from tasks.backends.learning import PointTraining as PointTraining
from tasks.backends.learning import ToyTraining as ToyTraining
from tasks.backends.learning import Training as Training
from tasks.backends.learning import TransformerTraining as TransformerTraining
from tasks.backends.learning import VaeTraining as VaeTraining
from tasks.backends.speaking import OWN as OWN
from tasks.backends.speaking import Resources as Resources
from tasks.backends.speaking import Sampling as Sampling
from tasks.backends.speaking import Settings as Settings

Progress = Callable[[int, int], None]
"""Told how much of how much is done, while it is being done."""


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


class Point(NamedTuple):
    """One point of a training's log; the held-out loss is known where it was measured."""

    step: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    heldout_loss: float | None = None


@dataclass(frozen=True)
class Lesson:
    """What a training reports: counts of tokens seen, its log, and the step that it resumed from; 0 where it began anew."""

    tokens: int
    human_tokens: int
    steps: int
    seconds: float
    log: tuple[Point, ...]
    resumed_from: int = 0


Text = str | tuple[str, str]
"""What is learned whole; or a prompt, and the response that alone is learned."""


@dataclass(frozen=True)
class Preference:
    """Two responses to a prompt, the better one first."""

    prompt: str
    chosen: str
    rejected: str
    human: bool
    weight: float = 1.0
    """How often it is seen in a pass, on average."""


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from, with their origins apart, so that a schedule can tell them apart; or preferences.

    A weight says how often a text is seen in a pass, on average; without weights every text is seen once.
    """

    human: Sequence[Text]
    synthetic: Sequence[Text]
    human_weights: Sequence[float] = ()
    synthetic_weights: Sequence[float] = ()
    preferences: Sequence[Preference] = ()


class Trainer(Protocol):
    """Learns from texts and leaves a model folder."""

    def train(
        self,
        corpus: Corpus,
        heldout: Sequence[Text],
        ancestor: Path | None,
        folder: Path,
        seed: int,
        progress: Progress,
        beginning: Path | str | None = None,
    ) -> Lesson:
        """Write a model to `folder`, which is empty or holds what a killed training of the same left there.

        `ancestor` is generation 0's model, whose vocabulary stays; `beginning` the model whose weights are gone on with,
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
