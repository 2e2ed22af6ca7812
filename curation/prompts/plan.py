"""Plan the prompts of a generation: their number, template, and the records that they are made from.

`unconditional` prompts are empty; `prefix` prompts are the first words of a human record; a template has placeholders
that records and attributes fill (`curation/prompts/templates.py`). No record is prompted from twice in a generation
unless `max_prompts_per_record` allows it.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from curation.prompts.record_sampling import cycle_shuffled, sample_by_source, sample_by_topic, sample_uniform
from curation.prompts.templates import (
    DEFAULT_OUTPUT_FORMATS,
    RECORD_PLACEHOLDERS,
    TEMPLATES,
    AttributeCell,
    grid_counts,
    grid_shares,
    placeholders,
    question_of,
    render_template,
    validate_template,
)
from curation.selection.apportionment import Shares, validate_shares
from curation.selection.topics import TopicModel, TopicSteeringSettings
from curation.text import first_n_words
from curation.user_code import PROMPT_TEMPLATES, UserCode
from heirloom.chat import (
    USER_ROLE,
    Conversation,
    parse_chat_text,
    parse_conversation,
    parse_prompt,
    parse_response,
    prompt_messages,
    render_chat,
    render_prompt,
)
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

_BUILTIN_TEMPLATES = ("unconditional", "prefix", "template", *TEMPLATES)


class PromptSettings(Settings):
    """`[prompts]`: the prompts of a generation, and the records made from their completions."""

    template_name: str = Field(
        "unconditional",
        description="kind of prompt: unconditional (empty), prefix (the first words of a human record), template (your "
        "own), "
        f"{', '.join(TEMPLATES)} (shipped templates), or your own function as package.module:name or file.py:name",
    )
    template: str = Field(
        "",
        description="template: the prompt, with placeholders {record}, {opening}, {question}, {earlier} and the names "
        "of attributes",
    )
    attributes: dict[str, tuple[str, ...]] = Field(
        {}, description="values of each attribute; the cells of their grid have exact quotas of prompts"
    )
    attribute_weights: dict[str, dict[str, float]] = Field(
        {}, description="weight of each value of each attribute; default: 1"
    )
    output_format: Literal["prompt_and_completion", "completion", "chat"] | None = Field(
        None,
        description="text to store as the record: `prompt_and_completion`, `completion`, or `chat` (both as a "
        "conversation); "
        "default: `prompt_and_completion` for unconditional and prefix, `chat` for distill, else `completion`",
    )
    completions_per_prompt: int = Field(
        1, ge=1, description="completions of each prompt, each with its own seed; the filter best_of keeps one of them"
    )
    prefix_words: int = Field(4, ge=1, description="words of a record in a prefix or {opening}")
    prompts_per_human_record: float = Field(
        1.0,
        gt=0,
        description="prompts of a generation per human training record; each has `completions_per_prompt` candidates",
    )
    max_prompts_per_record: int = Field(
        1,
        ge=1,
        description="maximum number of prompts from one record in a generation; a plan that needs more is an error",
    )
    source_shares: Shares = Field(
        None,
        description="share of the prompts from each source, as `{letters = 0.5, wiki = 0.5}`, exact to the prompt; "
        "`proportional` for the shares of the human training records; default: uniform over all records",
    )
    topic_steering: TopicSteeringSettings = TopicSteeringSettings()

    @model_validator(mode="after")
    def _fits_program(self) -> Self:
        validate_shares(self.source_shares, "source_shares")
        if self.template_name != "template" and self.template:
            raise HeirloomError(
                f"`template` is used with `template_name = 'template'` only; it is {self.template_name!r}. Remove one "
                "of them."
            )
        if self.is_user_template:
            PROMPT_TEMPLATES.resolve(self.template_name, _BUILTIN_TEMPLATES)
        elif self.template_name in TEMPLATES or self.template_name == "template":
            validate_template(self._template_text(), self.attributes)
        elif self.attributes:
            raise HeirloomError(
                f"`attributes` need a template with placeholders; {self.template_name!r} has none. Remove them."
            )
        unknown = [name for name in self.attribute_weights if name not in self.attributes]
        if unknown:
            raise HeirloomError(
                f"`attribute_weights` has weights for {unknown[0]!r}, which is not in `attributes`. Add it there, or "
                "remove them."
            )
        if not self.needs_records and (
            self.source_shares is not None or self.max_prompts_per_record > 1 or self.topic_steering.num_topics
        ):
            raise HeirloomError(
                "`max_prompts_per_record`, `source_shares` and `topic_steering` need prompts made from human records. "
                "Choose `template_name = 'prefix'` or a template with a record placeholder, or remove them."
            )
        if self.topic_steering.num_topics and (self.source_shares is not None or "topic" in self.attributes):
            raise HeirloomError(
                "`topic_steering` excludes `source_shares` and an attribute named 'topic'. Remove them, or set "
                "`num_topics = 0`."
            )
        return self

    def user_code(self) -> list[UserCode]:
        """The user's prompt template, if there is one. Nothing is imported here."""
        return [UserCode(PROMPT_TEMPLATES, self.template_name)] if self.is_user_template else []

    @property
    def is_user_template(self) -> bool:
        """Whether the prompts come from a function of the user's."""
        return self.template_name not in _BUILTIN_TEMPLATES

    @property
    def needs_records(self) -> bool:
        """Whether prompts are made from human records."""
        return self.template_name == "prefix" or bool(placeholders(self._template_text()) & RECORD_PLACEHOLDERS)

    @property
    def needs_survivors(self) -> bool:
        """Whether the plan depends on survivors of earlier generations: on texts, or numbers by cell or topic."""
        return bool(self.attributes or self.topic_steering.num_topics) or "earlier" in placeholders(
            self._template_text()
        )

    @property
    def resolved_output_format(self) -> str:
        """The output format with the default of the template: `prompt_and_completion`, `completion` or `chat`."""
        return self.output_format or DEFAULT_OUTPUT_FORMATS.get(self.template_name, "completion")

    def to_record(self, prompt: "PromptSpec", completion: str, reasoning: str = "") -> tuple[str, Conversation | None]:
        """Return the text to store for a prompt and its completion, and the conversation, if it is one."""
        if self.resolved_output_format == "prompt_and_completion":
            text = prompt.text + completion
            return text, _generated_conversation(text)
        if not prompt.conversation or self.resolved_output_format != "chat":
            return completion.strip(), None
        tools = prompt.conversation.tools
        response = parse_response(completion, with_tools=bool(tools))
        if reasoning.strip():
            response = {**response, "reasoning": reasoning.strip()}
        num_calls = sum(len(message.get("tool_calls", ())) for message in prompt.conversation.messages)
        for number, call in enumerate(response.get("tool_calls", ()), num_calls + 1):
            call["id"] = f"call_{number}"
        messages = [*prompt.conversation.messages, response]
        return render_chat(messages), Conversation(messages=messages, tools=tools)

    def attribute_cell(self, attributes: Mapping[str, str]) -> AttributeCell:
        """Return the cell of the grid with these attributes."""
        return tuple(attributes.get(name, "") for name in self.attributes)

    def _template_text(self) -> str:
        return TEMPLATES.get(self.template_name, self.template)


def _generated_conversation(text: str) -> Conversation | None:
    """Return the conversation that a model wrote as plain text, if it wrote a whole one."""
    if not text.startswith("### "):
        return None
    try:
        conversation = parse_conversation(parse_chat_text(text))
    except HeirloomError:
        return None
    return None if isinstance(conversation, str) else conversation


@dataclass(frozen=True)
class PromptSpec:
    """One prompt, and the rows of the human record and of the survivor that it was made from, -1 for none."""

    text: str
    human_row: int = -1
    survivor_row: int = -1
    attributes: Mapping[str, str] = field(default_factory=dict)
    conversation: Conversation | None = None
    """Messages to respond to, of which `text` is the plain text; None if the prompt is a text to continue."""


@dataclass(frozen=True, kw_only=True)
class PromptSources:
    """Texts that prompts are made from."""

    records: Sequence[str]
    """Human training records."""
    conversations: Sequence[Conversation | None] = ()
    """The conversation of each record, None for one that is no conversation. Empty: none is."""
    record_sources: Sequence[str] = ()
    """Source of each record, for `source_shares`."""
    survivors: Sequence[str] = ()
    """Survivors of the last generation, for `{earlier}`."""
    delivered: Mapping[AttributeCell, int] = field(default_factory=dict)
    """Survivors of all earlier generations by cell of the attribute grid."""
    topics: TopicModel | None = None
    """For `topic_steering`."""


def plan_prompts(settings: PromptSettings, sources: PromptSources, seed: int) -> list[PromptSpec]:
    """Return the prompts of a generation in order.

    Raises:
        HeirloomError: a record would be prompted from more often than allowed, or the user's function returned another
            number of prompts.
    """
    records = sources.records
    count = max(1, round(settings.prompts_per_human_record * len(records)))
    rng = np.random.default_rng(seed)
    if settings.template_name == "unconditional":
        return [PromptSpec("")] * count
    if settings.is_user_template:
        return _prompts_of_user_function(settings, sources, count, seed)
    if settings.template_name == "prefix":
        rows = _sample_rows(settings, sources, count, rng)
        specs = [
            _as_chat(settings, PromptSpec(first_n_words(records[row], settings.prefix_words), row), None)
            for row in rows.tolist()
        ]
    else:
        specs = _fill_template(settings, sources, count, rng)
    return [_with_topic(spec, sources.topics) for spec in specs] if sources.topics else specs


def _fill_template(
    settings: PromptSettings, sources: PromptSources, count: int, rng: np.random.Generator
) -> list[PromptSpec]:
    template = TEMPLATES.get(settings.template_name, settings.template)
    names = placeholders(template)
    human_rows = survivor_rows = np.full(count, -1)
    # Before there are survivors, `{earlier}` is filled by a human record.
    if names & {"record", "opening", "question"} or ("earlier" in names and not sources.survivors):
        human_rows = _sample_rows(settings, sources, count, rng)
    if "earlier" in names and sources.survivors:
        survivor_rows = cycle_shuffled(rng, np.arange(len(sources.survivors)), count)
    quotas = grid_counts(count, grid_shares(settings.attributes, settings.attribute_weights), sources.delivered)
    cells = [cell for cell, quota in quotas.items() for _ in range(quota)]
    specs = []
    for cell_index, human_row, survivor_row in zip(
        rng.permutation(count), human_rows.tolist(), survivor_rows.tolist(), strict=True
    ):
        attributes = dict(zip(settings.attributes, cells[cell_index], strict=True))
        record = sources.records[human_row] if human_row >= 0 else ""
        conversation = sources.conversations[human_row] if human_row >= 0 and sources.conversations else None
        question = question_of(record, conversation)
        values = attributes | {
            "record": record,
            "opening": first_n_words(question, settings.prefix_words),
            "question": question,
            "earlier": sources.survivors[survivor_row] if survivor_row >= 0 else record,
        }
        spec = PromptSpec(render_template(template, values), human_row, survivor_row, attributes)
        specs.append(_as_chat(settings, spec, conversation))
    return specs


def _as_chat(settings: PromptSettings, spec: PromptSpec, conversation: Conversation | None) -> PromptSpec:
    """Return a prompt as messages, if its record is to be a conversation.

    They are those of the human record up to the last message of a user, where the template is nothing but its question.
    """
    if settings.resolved_output_format != "chat":
        return spec
    if conversation and TEMPLATES.get(settings.template_name, settings.template).strip() == "{question}":
        messages = prompt_messages(conversation.messages)
        prompt = Conversation(messages=messages, tools=conversation.tools)
    else:
        prompt = Conversation(messages=[{"role": USER_ROLE, "content": spec.text}])
    return replace(spec, text=render_prompt(prompt.messages), conversation=prompt)


def _prompts_of_user_function(
    settings: PromptSettings, sources: PromptSources, count: int, seed: int
) -> list[PromptSpec]:
    """Call the user's function; it also gets the conversations, if it has a parameter of that name."""
    path = settings.template_name
    function = PROMPT_TEMPLATES.load(path)
    more = {}
    if "conversations" in inspect.signature(function).parameters:
        conversations = sources.conversations or [None] * len(sources.records)
        more["conversations"] = [
            {"messages": list(each.messages), "tools": list(each.tools)} if each else None for each in conversations
        ]
    specs = [_user_prompt(settings, prompt) for prompt in function(sources.records, count, seed, **more)]
    if len(specs) != count:
        raise HeirloomError(
            f"{path} returned {len(specs)} prompts; it must return exactly the {count} that it was called for."
        )
    return specs


def _user_prompt(settings: PromptSettings, prompt: object) -> PromptSpec:
    """Return the prompt that a user's function returned: a text or messages, or a pair of that and attributes.

    Raises:
        HeirloomError: it is neither, or the messages are malformed.
    """
    path = settings.template_name
    content, attributes = prompt if isinstance(prompt, tuple) and len(prompt) == 2 else (prompt, {})
    if not isinstance(attributes, Mapping):
        raise HeirloomError(f"{path} returned attributes that are a {type(attributes).__name__}; return a dict.")
    if isinstance(content, str):
        return _as_chat(settings, PromptSpec(content, attributes=dict(attributes)), None)
    messages = content.get("messages") if isinstance(content, Mapping) else content
    tools = content.get("tools") if isinstance(content, Mapping) else None
    if not isinstance(messages, list):
        raise HeirloomError(
            f"{path} returned a {type(content).__name__} as a prompt; return a text, a list of messages, or "
            "(either of them, a dict of attributes)."
        )
    conversation = parse_prompt(messages, tools)
    if isinstance(conversation, str):
        raise HeirloomError(f"{path} returned messages that cannot be a prompt: {conversation}.")
    text = render_prompt(conversation.messages)
    return PromptSpec(text, attributes=dict(attributes), conversation=conversation)


def _sample_rows(
    settings: PromptSettings, sources: PromptSources, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    rounds = settings.max_prompts_per_record
    if sources.topics:
        return sample_by_topic(rng, sources.topics, count, rounds)
    if settings.source_shares is not None:
        return sample_by_source(rng, sources.record_sources, settings.source_shares, count, rounds)
    return sample_uniform(rng, len(sources.records), count, rounds)


def _with_topic(spec: PromptSpec, topics: TopicModel) -> PromptSpec:
    if spec.human_row < 0:
        return spec
    topic = str(topics.assignment[spec.human_row])
    return replace(spec, attributes={**spec.attributes, "topic": topic})
