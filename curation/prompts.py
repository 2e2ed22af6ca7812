"""What to ask: how many candidates, from which opening words, with human records as parents.

`blank` lets the model speak from nothing; `opening` gives it the first words of a reserve record. No record is
asked twice in a generation unless `rounds` allows it; each round asks every record once before the next begins,
so no record of a source is asked more than once more often than another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.quotas import Shares, checked, enough, rows_of, source_quotas
from curation.text import opening


class PromptSettings(BaseModel):
    """`[prompts]`: what the model is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: Literal["blank", "opening"] = Field(
        "blank", description="from nothing, or from the opening words of a reserve record"
    )
    opening_words: int = Field(
        4, ge=1, description="words of the record that an opening gives; in scripts without spaces, signs"
    )
    candidates_per_human_record: float = Field(
        1.0, gt=0, description="candidates of a generation, relative to the reserve"
    )
    rounds: int = Field(
        1, ge=1, description="opening: most times that one record is asked in a generation; more is refused"
    )
    sources: Shares = Field(
        None,
        description="opening: share of the prompts from each source, as `{letters = 0.5, wiki = 0.5}`, exact to the "
        "prompt; `as-reserve` for the reserve's own shares; without it all sources are asked alike",
    )

    @model_validator(mode="after")
    def _fits_program(self) -> Self:
        checked(self.sources, "sources")
        if self.program != "opening" and (self.sources is not None or self.rounds > 1):
            raise ValueError("rounds and sources belong to program 'opening'")
        return self


@dataclass(frozen=True)
class Asking:
    """One prompt and the reserve row it came from, -1 for none."""

    text: str
    parent: int


def plan_prompts(
    settings: PromptSettings, reserve: Sequence[str], seed: int, sources: Sequence[str] = ()
) -> list[Asking]:
    """One asking for each candidate, in order; rounds over the reserve are shuffled by `seed`.

    `sources` names the source of each reserve record; it is needed where the settings have quotas for them.

    Raises:
        ValueError: more openings are asked for than the rounds allow.
    """
    count = max(1, round(settings.candidates_per_human_record * len(reserve)))
    if settings.program == "blank":
        return [Asking("", -1)] * count
    dice = np.random.default_rng(seed)
    if settings.sources is None:
        rows = _asked(dice, np.arange(len(reserve)), count, settings.rounds, "reserve records")
    else:
        wanted = source_quotas(count, settings.sources, sources)
        parts = [
            _asked(dice, rows_of(source, sources), share, settings.rounds, f"records of source {source}")
            for source, share in wanted.items()
        ]
        rows = dice.permutation(np.concatenate(parts))
    return [Asking(opening(reserve[row], settings.opening_words), int(row)) for row in rows]


def _asked(dice: np.random.Generator, rows: NDArray[np.int64], count: int, rounds: int, what: str) -> NDArray[np.int64]:
    times = "" if rounds == 1 else f", each at most {rounds} times"
    remedy = "lower prompts.candidates_per_human_record, raise prompts.rounds, or ingest more"
    enough("the plan of prompts", count, rounds * len(rows), f"openings from {what}{times}", remedy)
    return np.concatenate([rows[:0], *(dice.permutation(rows) for _ in range(-(-count // max(1, len(rows)))))])[:count]
