"""Types that backends exchange with the stages: prompts, completions, scores, training corpora and results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from tasks.backends.settings.resources import Resources
from tasks.backends.settings.training import Training

Progress = Callable[[int, int], None]
"""Callback that receives the number of finished and of all items."""


@dataclass(frozen=True)
class Prompt:
    """Prompt of one candidate, and the seed of its random number generator."""

    text: str
    seed: int


@dataclass(frozen=True)
class Completion:
    """Completion of one prompt.

    `finish_reason` is `stop`, `length` if the text was cut, `invalid_json` if it violates the schema, or another value
    of the server.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    sum_logprob: float | None
    """In nats, under the model without sampling settings. None if a server does not return it."""
    teacher: str = ""
    """Name of the teacher that generated it; empty for the generation's own model."""


@dataclass(frozen=True)
class Score:
    """Negative log-likelihood of one text in nats, at each requested temperature."""

    tokens: int
    nll: tuple[float, ...]
    dtype: str = "float64"
    """Data type that the model was computed in. Toy models have float64."""


class LogPoint(NamedTuple):
    """One point of a training log. The held-out loss is None at steps without evaluation."""

    step: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    heldout_loss: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """Counts of a training, its log, and the step that it resumed from: 0 if it did not resume."""

    tokens: int
    human_tokens: int
    steps: int
    seconds: float
    log: tuple[LogPoint, ...]
    resumed_from_step: int = 0


Text = str | tuple[str, str]
"""A text to train on, or a prompt and a response, of which only the response is part of the loss."""


@dataclass(frozen=True)
class PreferencePair:
    """Two responses to a prompt, the better one first."""

    prompt: str
    chosen: str
    rejected: str
    human: bool
    weight: float = 1.0
    """Mean number of times that it is seen in one epoch."""


@dataclass(frozen=True)
class TrainingCorpus:
    """Texts to train on, separated by origin for `human_ratio_schedule`, or preference pairs.

    A weight is the mean number of times that a text is seen in one epoch. Without weights every text is seen once.
    """

    human: Sequence[Text]
    synthetic: Sequence[Text]
    human_weights: Sequence[float] = ()
    synthetic_weights: Sequence[float] = ()
    preferences: Sequence[PreferencePair] = ()


TrainingT_co = TypeVar("TrainingT_co", bound=Training, covariant=True)


@dataclass(frozen=True, kw_only=True)
class TrainJob(Generic[TrainingT_co]):
    """Input of one training: settings, data, the models it starts from, and the folder it writes to."""

    settings: TrainingT_co
    corpus: TrainingCorpus
    eval_texts: Sequence[Text] = ()
    """Held-out texts. Read only if `settings` evaluate during training."""
    gen0_model: Path | None = None
    """Model of generation 0, whose vocabulary every later model keeps; None trains a new vocabulary."""
    initial_weights: Path | str | None = None
    """Folder or hub name of the model whose weights training starts from; None trains from scratch."""
    folder: Path
    """Output folder: empty, or with the checkpoints of an interrupted run of the same job."""
    seed: int
    resources: Resources = field(default_factory=Resources)
    """Resources of the site. `TrainerClient` sets them to those of its worker processes."""
