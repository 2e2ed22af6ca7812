"""What to ask: how many candidates, by which program, with which records as parents.

`unconditional` lets the model speak from nothing; `prefix` gives it the first words of a reserve record; a template asks
for something, with slots that records and attributes fill (see `curation/prompts/templates.py`). No record is asked twice in
a generation unless `rounds` allows it; each round asks every record once before the next begins, so no record of
a source is asked more than once more often than another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.chat import render_chat, to_messages
from curation.prompts.record_sampling import cycle_shuffled, sample_by_source, sample_by_topic, sample_uniform
from curation.prompts.templates import (
    DEFAULT_OUTPUT_FORMATS,
    RECORD_PLACEHOLDERS,
    TEMPLATES,
    AttributeCell,
    first_user_message,
    grid_counts,
    grid_shares,
    placeholders,
    render_template,
    validate_template,
)
from curation.selection.apportionment import Shares, validate_shares
from curation.selection.topics import TopicModel, TopicSteeringSettings
from curation.text import first_n_words
from curation.user_code import load_user_function
from heirloom.errors import HeirloomError


class PromptSettings(BaseModel):
    """`[prompts]`: what the model is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    template_name: str = Field(
        "unconditional",
        description="unconditional (an empty prompt), prefix (the first words of a reserve record), template (your own), "
        f"{', '.join(TEMPLATES)} (shipped templates), or package.module:function",
    )
    template: str = Field(
        "",
        description="template: the prompt, with slots {record}, {opening}, {question}, {earlier} and the names of attributes",
    )
    attributes: dict[str, tuple[str, ...]] = Field(
        {}, description="values of each attribute; their grid is asked for with exact quotas"
    )
    attribute_weights: dict[str, dict[str, float]] = Field(
        {}, description="attribute to value to weight; 1 where nothing is said"
    )
    output_format: Literal["prompt_and_completion", "completion", "chat"] | None = Field(
        None,
        description="what becomes the record: prompt and answer as one text, the answer alone, or both as two turns; without it, "
        "unconditional and prefix continue, distill makes a conversation, and the others leave the answer alone",
    )
    completions_per_prompt: int = Field(
        1, ge=1, description="answers to each prompt, each by dice of its own; the sieve best_of keeps one of them"
    )
    prefix_words: int = Field(
        4, ge=1, description="words of the record that an opening gives; in scripts without spaces, signs"
    )
    prompts_per_human_record: float = Field(
        1.0,
        gt=0,
        description="prompts of a generation, relative to the reserve; each has `completions_per_prompt` candidates",
    )
    max_prompts_per_record: int = Field(
        1, ge=1, description="most times that one record is asked in a generation; more is refused"
    )
    source_shares: Shares = Field(
        None,
        description="share of the prompts from each source, as `{letters = 0.5, wiki = 0.5}`, exact to the "
        "prompt; `as-reserve` for the reserve's own shares; without it all sources are asked alike",
    )
    topic_steering: TopicSteeringSettings = TopicSteeringSettings()

    @model_validator(mode="after")
    def _fits_program(self) -> Self:
        validate_shares(self.source_shares, "sources")
        if self.template_name != "template" and self.template:
            raise HeirloomError("template belongs to template_name 'template'")
        if ":" in self.template_name:
            load_user_function(self.template_name)
        elif self.template_name in TEMPLATES or self.template_name == "template":
            validate_template(self._asks(), self.attributes)
        elif self.template_name not in ("unconditional", "prefix"):
            raise HeirloomError(f"there is no template_name {self.template_name!r}")
        elif self.attributes:
            raise HeirloomError(f"attributes belong to a template; {self.template_name!r} has none")
        if unknown := [name for name in self.attribute_weights if name not in self.attributes]:
            raise HeirloomError(f"attribute_weights are given for {unknown[0]}, which is no attribute")
        if not self.needs_records and (
            self.source_shares is not None or self.max_prompts_per_record > 1 or self.topic_steering.num_topics
        ):
            raise HeirloomError(
                "max_prompts_per_record, source_shares and topic_steering belong to templates that take records from the reserve"
            )
        if self.topic_steering.num_topics and (self.source_shares is not None or "topic" in self.attributes):
            raise HeirloomError("prompts are steered by topic: leave out source_shares, and name no attribute topic")
        return self

    @property
    def needs_records(self) -> bool:
        """Whether a prompt takes something from a record."""
        return self.template_name == "prefix" or bool(placeholders(self._asks()) & RECORD_PLACEHOLDERS)

    @property
    def needs_survivors(self) -> bool:
        """Whether a plan depends on what earlier generations left: their texts, or how many of each cell or topic."""
        return bool(self.attributes or self.topic_steering.num_topics) or "earlier" in placeholders(self._asks())

    @property
    def resolved_output_format(self) -> str:
        """What becomes the record: `prompt_and_completion`, `completion` or `chat`."""
        return self.output_format or DEFAULT_OUTPUT_FORMATS.get(self.template_name, "completion")

    def to_record(self, prompt: str, answer: str) -> str:
        """The record that a prompt and its answer make."""
        if self.resolved_output_format == "prompt_and_completion":
            return prompt + answer
        return (
            render_chat(to_messages(prompt, answer.strip()))
            if self.resolved_output_format == "chat"
            else answer.strip()
        )

    def attribute_cell(self, attributes: Mapping[str, str]) -> AttributeCell:
        """Where a prompt with these attributes stands in the grid."""
        return tuple(attributes.get(name, "") for name in self.attributes)

    def _asks(self) -> str:
        return TEMPLATES.get(self.template_name, self.template)


@dataclass(frozen=True)
class PromptSpec:
    """One prompt and where it came from: a row of the reserve, a row of the earlier survivors, -1 for none."""

    text: str
    human_row: int = -1
    survivor_row: int = -1
    attributes: Mapping[str, str] = field(default_factory=dict)


def plan_prompts(
    settings: PromptSettings,
    human_train: Sequence[str],
    seed: int,
    sources: Sequence[str] = (),
    survivors: Sequence[str] = (),
    delivered: Mapping[AttributeCell, int] | None = None,
    topics: TopicModel | None = None,
) -> list[PromptSpec]:
    """One asking for each prompt, in order; rounds over the reserve are shuffled by `seed`.

    `sources` names the source of each reserve record; it is needed where the settings have quotas for them. `earlier` are
    the survivors of the last generation, `delivered` counts those of all earlier ones by cell of the attribute grid;
    `topics` steer which records are asked.

    Raises:
        HeirloomError: more prompts from records are asked for than the rounds allow, or one's own program gave no prompts.
    """
    count = max(1, round(settings.prompts_per_human_record * len(human_train)))
    rng = np.random.default_rng(seed)
    if settings.template_name == "unconditional":
        return [PromptSpec("")] * count
    if ":" in settings.template_name:
        return _own(settings.template_name, human_train, count, seed)
    rows = partial(_rows, settings, rng, len(human_train), sources, topics)
    if settings.template_name == "prefix":
        asked = [PromptSpec(first_n_words(human_train[row], settings.prefix_words), int(row)) for row in rows(count)]
    else:
        asked = _templated(settings, rng, human_train, rows, survivors, delivered or {}, count)
    return [_about(asking, topics) for asking in asked] if topics else asked


def _templated(
    settings: PromptSettings,
    rng: np.random.Generator,
    reserve: Sequence[str],
    rows_of_records: Callable[[int], NDArray[np.int64]],
    earlier: Sequence[str],
    delivered: Mapping[AttributeCell, int],
    count: int,
) -> list[PromptSpec]:
    template = TEMPLATES.get(settings.template_name, settings.template)
    taken, nobody = placeholders(template), np.full(count, -1)
    from_earlier = bool(earlier) and "earlier" in taken
    wants_record = bool(taken & {"record", "opening", "question"}) or ("earlier" in taken and not earlier)
    rows = rows_of_records(count) if wants_record else nobody
    olds = cycle_shuffled(rng, np.arange(len(earlier)), count) if from_earlier else nobody
    quota = grid_counts(count, grid_shares(settings.attributes, settings.attribute_weights), delivered)
    cells = [cell for cell, times in quota.items() for _ in range(times)]
    asked = []
    for place, row, old in zip(rng.permutation(count), rows.tolist(), olds.tolist(), strict=True):
        attributes = dict(zip(settings.attributes, cells[place], strict=True))
        record = reserve[row] if row >= 0 else ""
        told = {
            "record": record,
            "opening": first_n_words(record, settings.prefix_words),
            "question": first_user_message(record),
        }
        told["earlier"] = earlier[old] if old >= 0 else record
        asked.append(PromptSpec(render_template(template, attributes | told), row, old, attributes))
    return asked


def _own(path: str, reserve: Sequence[str], count: int, seed: int) -> list[PromptSpec]:
    made = list(load_user_function(path)(reserve, count, seed))
    asked = [PromptSpec(one) if isinstance(one, str) else PromptSpec(one[0], attributes=dict(one[1])) for one in made]
    if len(asked) != count:
        raise HeirloomError(f"{path} was asked for {count} prompts and gave {len(asked)}; it must give exactly as many")
    return asked


def _rows(
    settings: PromptSettings,
    rng: np.random.Generator,
    records: int,
    sources: Sequence[str],
    topics: TopicModel | None,
    count: int,
) -> NDArray[np.int64]:
    if topics:
        return sample_by_topic(rng, topics, count, settings.max_prompts_per_record)
    if settings.source_shares is not None:
        return sample_by_source(rng, sources, settings.source_shares, count, settings.max_prompts_per_record)
    return sample_uniform(rng, records, count, settings.max_prompts_per_record)


def _about(asking: PromptSpec, topics: TopicModel) -> PromptSpec:
    if asking.human_row < 0:
        return asking
    topic = str(topics.assignment[asking.human_row])
    return replace(asking, attributes={**asking.attributes, "topic": topic})
