"""Settings and decisions of a human review of a generation."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from heirloom.settings import Settings

ReviewAction = Literal["accept", "redo", "stop"]
REVIEWED_ACTIONS = {"never": (), "warned": ("warn",), "always": ("go", "warn")}
"""Gate actions that need a review, by `review.when`. A retry, rollback or stop by the gate is never reviewed."""


class ReviewSettings(Settings):
    """`[review]`: whether a run waits for a human review before it continues. Not part of any fingerprint."""

    when: Literal["never", "warned", "always"] = Field(
        "never",
        description="generations to review, from generation 1 on: `never`, `warned` (those with a gate warning), or "
        "`always`; a "
        "generation that the gate retries, rolls back or stops is not reviewed",
    )
    timeout_hours: float = Field(24.0, gt=0, description="hours to wait for a decision")
    default_decision: Literal["accept", "stop"] = Field("accept", description="decision to apply after the timeout")


@dataclass(frozen=True)
class ReviewDecision:
    """Decision about one attempt."""

    decision: ReviewAction
    human_fraction: float | None = None
    """For `redo`: the human fraction to mix with; None leaves the mix settings unchanged."""
    rejected_ids: tuple[str, ...] = ()
    """Ids of records to exclude from every later corpus."""
    reason: str = ""
    reviewer: Literal["person", "time limit"] = "person"
