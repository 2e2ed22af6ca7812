"""What to ask: how many candidates, by which program, with which records as parents.

`blank` lets the model speak from nothing; `opening` gives it the first words of a reserve record; a template asks
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

from curation.chat import as_turns, render
from curation.prompts.record_sampling import asked_alike, asked_by_source, asked_by_topic, cycled
from curation.prompts.templates import (
    DEFAULT_ANSWERS,
    RECORD_SLOTS,
    TEMPLATES,
    Cell,
    asked_by_cell,
    cell_shares,
    checked_template,
    fill,
    question,
    slots,
)
from curation.selection.apportionment import Shares, checked
from curation.selection.topics import SteerSettings, Topics
from curation.text import opening
from curation.user_code import own_program


class PromptSettings(BaseModel):
    """`[prompts]`: what the model is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: str = Field(
        "blank",
        description="blank (from nothing), opening (the first words of a reserve record), template (your own), "
        f"{', '.join(TEMPLATES)} (shipped templates), or package.module:function",
    )
    template: str = Field(
        "",
        description="template: the prompt, with slots {record}, {opening}, {question}, {earlier} and the names of attributes",
    )
    attributes: dict[str, tuple[str, ...]] = Field(
        {}, description="values of each attribute; their grid is asked for with exact quotas"
    )
    weights: dict[str, dict[str, float]] = Field(
        {}, description="attribute to value to weight; 1 where nothing is said"
    )
    answer: Literal["continues", "alone", "conversation"] | None = Field(
        None,
        description="what becomes the record: prompt and answer as one text, the answer alone, or both as two turns; without it, "
        "blank and opening continue, distill makes a conversation, and the others leave the answer alone",
    )
    answers: int = Field(
        1, ge=1, description="answers to each prompt, each by dice of its own; the sieve best_of keeps one of them"
    )
    opening_words: int = Field(
        4, ge=1, description="words of the record that an opening gives; in scripts without spaces, signs"
    )
    candidates_per_human_record: float = Field(
        1.0, gt=0, description="prompts of a generation, relative to the reserve; each has `answers` candidates"
    )
    rounds: int = Field(1, ge=1, description="most times that one record is asked in a generation; more is refused")
    sources: Shares = Field(
        None,
        description="share of the prompts from each source, as `{letters = 0.5, wiki = 0.5}`, exact to the "
        "prompt; `as-reserve` for the reserve's own shares; without it all sources are asked alike",
    )
    steer: SteerSettings = SteerSettings()

    @model_validator(mode="after")
    def _fits_program(self) -> Self:
        checked(self.sources, "sources")
        if self.program != "template" and self.template:
            raise ValueError("template belongs to program 'template'")
        if ":" in self.program:
            own_program(self.program)
        elif self.program in TEMPLATES or self.program == "template":
            checked_template(self._asks(), self.attributes)
        elif self.program not in ("blank", "opening"):
            raise ValueError(f"there is no program {self.program!r}")
        elif self.attributes:
            raise ValueError(f"attributes belong to a template; {self.program!r} has none")
        if unknown := [name for name in self.weights if name not in self.attributes]:
            raise ValueError(f"weights are given for {unknown[0]}, which is no attribute")
        if not self.uses_records and (self.sources is not None or self.rounds > 1 or self.steer.topics):
            raise ValueError("rounds, sources and steer belong to programs that take records from the reserve")
        if self.steer.topics and (self.sources is not None or "topic" in self.attributes):
            raise ValueError("prompts are steered by topic: leave out sources, and name no attribute topic")
        return self

    @property
    def uses_records(self) -> bool:
        """Whether a prompt takes something from a record."""
        return self.program == "opening" or bool(slots(self._asks()) & RECORD_SLOTS)

    @property
    def builds_on_survivors(self) -> bool:
        """Whether a plan depends on what earlier generations left: their texts, or how many of each cell or topic."""
        return bool(self.attributes or self.steer.topics) or "earlier" in slots(self._asks())

    @property
    def leaves(self) -> str:
        """What becomes the record: `continues`, `alone` or `conversation`."""
        return self.answer or DEFAULT_ANSWERS.get(self.program, "alone")

    def record(self, prompt: str, answer: str) -> str:
        """The record that a prompt and its answer make."""
        if self.leaves == "continues":
            return prompt + answer
        return render(as_turns(prompt, answer.strip())) if self.leaves == "conversation" else answer.strip()

    def cell(self, attributes: Mapping[str, str]) -> Cell:
        """Where a prompt with these attributes stands in the grid."""
        return tuple(attributes.get(name, "") for name in self.attributes)

    def _asks(self) -> str:
        return TEMPLATES.get(self.program, self.template)


@dataclass(frozen=True)
class Asking:
    """One prompt and where it came from: a row of the reserve, a row of the earlier survivors, -1 for none."""

    text: str
    parent: int = -1
    earlier: int = -1
    attributes: Mapping[str, str] = field(default_factory=dict)


def plan_prompts(
    settings: PromptSettings,
    reserve: Sequence[str],
    seed: int,
    sources: Sequence[str] = (),
    earlier: Sequence[str] = (),
    delivered: Mapping[Cell, int] | None = None,
    topics: Topics | None = None,
) -> list[Asking]:
    """One asking for each prompt, in order; rounds over the reserve are shuffled by `seed`.

    `sources` names the source of each reserve record; it is needed where the settings have quotas for them. `earlier` are
    the survivors of the last generation, `delivered` counts those of all earlier ones by cell of the attribute grid;
    `topics` steer which records are asked.

    Raises:
        ValueError: more prompts from records are asked for than the rounds allow, or one's own program gave no prompts.
    """
    count = max(1, round(settings.candidates_per_human_record * len(reserve)))
    dice = np.random.default_rng(seed)
    if settings.program == "blank":
        return [Asking("")] * count
    if ":" in settings.program:
        return _own(settings.program, reserve, count, seed)
    rows = partial(_rows, settings, dice, len(reserve), sources, topics)
    if settings.program == "opening":
        asked = [Asking(opening(reserve[row], settings.opening_words), int(row)) for row in rows(count)]
    else:
        asked = _templated(settings, dice, reserve, rows, earlier, delivered or {}, count)
    return [_about(asking, topics) for asking in asked] if topics else asked


def _templated(
    settings: PromptSettings,
    dice: np.random.Generator,
    reserve: Sequence[str],
    rows_of_records: Callable[[int], NDArray[np.int64]],
    earlier: Sequence[str],
    delivered: Mapping[Cell, int],
    count: int,
) -> list[Asking]:
    template = TEMPLATES.get(settings.program, settings.template)
    taken, nobody = slots(template), np.full(count, -1)
    from_earlier = bool(earlier) and "earlier" in taken
    wants_record = bool(taken & {"record", "opening", "question"}) or ("earlier" in taken and not earlier)
    rows = rows_of_records(count) if wants_record else nobody
    olds = cycled(dice, np.arange(len(earlier)), count) if from_earlier else nobody
    quota = asked_by_cell(count, cell_shares(settings.attributes, settings.weights), delivered)
    cells = [cell for cell, times in quota.items() for _ in range(times)]
    asked = []
    for place, row, old in zip(dice.permutation(count), rows.tolist(), olds.tolist(), strict=True):
        attributes = dict(zip(settings.attributes, cells[place], strict=True))
        record = reserve[row] if row >= 0 else ""
        told = {"record": record, "opening": opening(record, settings.opening_words), "question": question(record)}
        told["earlier"] = earlier[old] if old >= 0 else record
        asked.append(Asking(fill(template, attributes | told), row, old, attributes))
    return asked


def _own(path: str, reserve: Sequence[str], count: int, seed: int) -> list[Asking]:
    made = list(own_program(path)(reserve, count, seed))
    asked = [Asking(one) if isinstance(one, str) else Asking(one[0], attributes=dict(one[1])) for one in made]
    if len(asked) != count:
        raise ValueError(f"{path} was asked for {count} prompts and gave {len(asked)}; it must give exactly as many")
    return asked


def _rows(
    settings: PromptSettings,
    dice: np.random.Generator,
    records: int,
    sources: Sequence[str],
    topics: Topics | None,
    count: int,
) -> NDArray[np.int64]:
    if topics:
        return asked_by_topic(dice, topics, count, settings.rounds)
    if settings.sources is not None:
        return asked_by_source(dice, sources, settings.sources, count, settings.rounds)
    return asked_alike(dice, records, count, settings.rounds)


def _about(asking: Asking, topics: Topics) -> Asking:
    if asking.parent < 0:
        return asking
    topic = str(topics.of_human[asking.parent])
    return replace(asking, attributes={**asking.attributes, "topic": topic})
