"""What a person may decide about a generation, and what counts where nobody answers in time."""

from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

ReviewAction = Literal["accept", "redo", "stop"]
REVIEW_ACTIONS: tuple[ReviewAction, ...] = get_args(ReviewAction)
REVIEWED_ACTIONS = {"never": (), "warned": ("warn",), "always": ("go", "warn")}
"""The verdicts that a person is asked about. What the gate redoes, rolls back or stops is settled without one."""


class ReviewSettings(BaseModel):
    """`[review]`: whether a run waits for a person before it goes on. Part of how a run is kept, not of what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: Literal["never", "warned", "always"] = Field(
        "never",
        description="which generations a person is asked about, from the first that speaks: those the gate warns of, or all; "
        "what the gate redoes, rolls back or stops is not asked about",
    )
    timeout_hours: float = Field(24.0, gt=0, description="how long an answer is waited for")
    default_decision: Literal["accept", "stop"] = Field(
        "accept", description="what counts where nobody has answered by then"
    )


@dataclass(frozen=True)
class ReviewDecision:
    """What was decided about one attempt, by whom, and why."""

    decision: ReviewAction
    human_fraction: float | None = None
    """Redo: the human share to mix with; None leaves the mixing as it is."""
    rejected_ids: tuple[str, ...] = ()
    """Ids of records that no later corpus may hold."""
    reason: str = ""
    reviewer: Literal["person", "time limit"] = "person"
