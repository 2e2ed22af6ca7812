"""Types that backends exchange with the stages: prompts, completions, scores, training corpora and results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from heirloom.chat import (
    ASSISTANT_ROLE,
    REJECTED_ROLE,
    Conversation,
    Message,
    from_json,
    message_text,
    render_chat,
)
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.training import Training

Progress = Callable[[int, int], None]
"""Callback that receives the number of finished and of all items."""


@dataclass(frozen=True)
class Prompt:
    """Prompt of one candidate, and the seed of its random number generator."""

    text: str
    seed: int
    conversation: Conversation | None = None
    """Messages to respond to, of which `text` is the plain text; None if the prompt is a text to continue."""


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
    num_cut_tokens: int = 0
    """Tokens that were cut off at the end of a prompt that did not fit into the model's context."""
    reasoning: str = ""
    """What a thinking model generated before `text`."""
    reasoning_tokens: int = 0
    """Tokens of the reasoning; 0 if a server does not return it."""
    num_retries: int = 0
    """How many completions before this one violated the JSON schema."""
    seed: int | None = None
    """Seed that it was sampled with, if not that of the prompt."""


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
    chat: "ChatReport | None" = None
    """None if no conversation was trained on."""


@dataclass(frozen=True)
class ChatReport:
    """How a model was given its conversations."""

    template: str
    """Where the chat template is from, or that there is none."""
    has_template: bool
    num_conversations: int
    without_response: int
    """Conversations without a response to a message, which are not trained on."""
    unwritten_fields: Mapping[str, int]
    """Conversations with a field that the template does not write, by field."""


@dataclass(frozen=True)
class ChatText:
    """A conversation to train on or to score; its responses are part of the loss, or with `whole` every token."""

    conversation: Conversation
    whole: bool = False


Text = str | tuple[str, str] | ChatText
"""A text to train on; a prompt and a response, of which only the response is part of the loss; or a conversation."""


def plain_text(text: Text) -> str:
    """Return the whole of a text or conversation as plain text."""
    if isinstance(text, ChatText):
        return render_chat(text.conversation.messages)
    return text if isinstance(text, str) else "".join(text)


def scored_text(text: Text) -> str:
    """Return the part of a text that a loss is computed of: its responses, or all of it."""
    if isinstance(text, ChatText) and not text.whole:
        responses = [message for message in text.conversation.messages if message["role"] == ASSISTANT_ROLE]
        return "".join(map(message_text, responses))
    return text[1] if isinstance(text, tuple) else plain_text(text)


def record_text(row: Mapping[str, Any], *, whole: bool) -> str | ChatText:
    """Return the text of a record, or its conversation without a rejected response if it is one.

    Args:
        row: columns `text`, `messages` and `tools`.
        whole: whether every token of a conversation is part of the loss.
    """
    conversation = from_json(row["messages"], row["tools"])
    if not conversation:
        text: str = row["text"]
        return text
    messages = [message for message in conversation.messages if message["role"] != REJECTED_ROLE]
    return ChatText(Conversation(messages=messages, tools=conversation.tools), whole)


@dataclass(frozen=True)
class ChatPair:
    """Two responses to the messages of a conversation."""

    prompt: Conversation
    chosen: Message
    rejected: Message


@dataclass(frozen=True)
class PreferencePair:
    """Two responses to a prompt, the better one first."""

    prompt: str
    chosen: str
    rejected: str
    human: bool
    weight: float = 1.0
    """Mean number of times that it is seen in one epoch."""
    chat: ChatPair | None = None
    """The pair as messages, of which the texts are the plain text; None if it is no conversation."""


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
    adds_chat_template: bool = False
    """Whether a model with random weights gets the shipped chat template."""
    resources: Resources = field(default_factory=Resources)
    """Resources of the site. `TrainerClient` sets them to those of its worker processes."""
