"""What to ask: how many candidates, from which opening words, with human records as parents.

`blank` lets the model speak from nothing; `opening` gives it the first words of a reserve record. Each round
over the reserve asks every record once, so no record is asked more than once more often than another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class PromptSettings(BaseModel):
    """`[prompts]`: what the model is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: Literal["blank", "opening"] = Field(
        "blank", description="from nothing, or from the opening words of a reserve record"
    )
    opening_words: int = Field(4, ge=1, description="words of the record that an opening gives")
    candidates_per_human_record: float = Field(
        1.0, gt=0, description="candidates of a generation, relative to the reserve"
    )


@dataclass(frozen=True)
class Asking:
    """One prompt and the reserve row it came from, -1 for none."""

    text: str
    parent: int


def plan_prompts(settings: PromptSettings, reserve: Sequence[str], seed: int) -> list[Asking]:
    """One asking for each candidate, in order; rounds over the reserve are shuffled by `seed`."""
    count = max(1, round(settings.candidates_per_human_record * len(reserve)))
    if settings.program == "blank":
        return [Asking("", -1)] * count
    dice = np.random.default_rng(seed)
    rounds = [dice.permutation(len(reserve)) for _ in range(-(-count // len(reserve)))]
    rows = np.concatenate(rounds)[:count]
    return [Asking(" ".join(reserve[row].split()[: settings.opening_words]), int(row)) for row in rows]
