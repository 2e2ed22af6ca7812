"""Types that backends exchange with the stages: prompts, completions, scores, training corpora and results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from tasks.backends.settings.resources import Resources
from tasks.backends.settings.training import Training

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

    `finish_reason` is `stop`, `length` where the text was cut, `invalid_json` where it breaks the schema, or a server's own word.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    sum_logprob: float | None
    """In nats under the unmodified model; None from a server that does not say."""
    teacher: str = ""
    """Who a server says it was, where it was not the generation's own model."""


@dataclass(frozen=True)
class Score:
    """Negative log-likelihood of one text in nats, at each temperature asked for."""

    tokens: int
    nll: tuple[float, ...]


class LogPoint(NamedTuple):
    """One point of a training's log; the held-out loss is known where it was measured."""

    step: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    heldout_loss: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """What a training reports: counts of tokens seen, its log, and the step that it resumed from; 0 where it began anew."""

    tokens: int
    human_tokens: int
    steps: int
    seconds: float
    log: tuple[LogPoint, ...]
    resumed_from_step: int = 0


Text = str | tuple[str, str]
"""What is learned whole; or a prompt, and the response that alone is learned."""


@dataclass(frozen=True)
class PreferencePair:
    """Two responses to a prompt, the better one first."""

    prompt: str
    chosen: str
    rejected: str
    human: bool
    weight: float = 1.0
    """How often it is seen in a pass, on average."""


@dataclass(frozen=True)
class TrainingCorpus:
    """Texts to learn from, with their origins apart, so that a schedule can tell them apart; or preferences.

    A weight says how often a text is seen in a pass, on average; without weights every text is seen once.
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
