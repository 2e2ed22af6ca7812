"""Apply a gate verdict or a review decision: accept the generation, retry it, roll back, or stop.

Decisions are in the journal, and a resumed run takes them from there. Rejected attempts are not repeated, even after
their files are deleted.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from curation.mixing import MixSettings
from curation.review import ReviewDecision
from flows.config.recipe import Recipe
from storage.artifacts.artifact import read_manifest, read_table
from storage.runs.run import Attempt, Run
from storage.runs.status import journal_entry

if TYPE_CHECKING:
    from tasks.context import Generation


@dataclass
class LoopController:
    """State of a run between attempts: the accepted generations, and the recipe as earlier verdicts changed it."""

    run: Run
    recipe: Recipe
    accepted: list["Generation"] = field(default_factory=list)
    action: str = "go"
    """Action of the last verdict."""
    _attempt_number: int = 1
    _ended: bool = False

    def next_attempt(self) -> Attempt | None:
        """Return the next attempt; None at the end of the run."""
        while not self._ended and len(self.accepted) <= self.recipe.num_generations:
            attempt = Attempt(self.run, len(self.accepted), self._attempt_number)
            rejected = journal_entry(attempt, "rejected")
            if rejected is None:
                return attempt
            if "human_fraction" in rejected:
                self._increase_human_fraction(rejected["human_fraction"], rejected["records"])
            elif "redone" in rejected:
                self._attempt_number += 1
            else:
                self.action, self._ended = "roll_back", True
        return None

    def apply(self, generation: "Generation", num_human: int, review: ReviewDecision | None = None) -> None:
        """Apply the decision about a finished attempt: that of the review if there is one, else that of the gate.

        Args:
            generation: the finished attempt.
            num_human: human records that a corpus can contain.
            review: decision of a reviewer.
        """
        if review and review.decision == "redo":
            self._retry_as_reviewed(generation, num_human, review)
            return
        self.action = generation.action
        stop_reason = ""
        if generation.action == "raise_human_fraction":
            stop_reason = self._retry_with_more_human(generation, num_human)
        elif generation.action == "roll_back":
            stop_reason = self._roll_back(generation)
        if generation.action in ("go", "warn", "stop") or stop_reason:
            self._accept(generation)
        if review and review.decision == "stop":
            stop_reason = _review_reason("stopped", review)
        if generation.action == "stop" or stop_reason:
            reason = "; ".join(part for part in (generation.reasons, stop_reason) if part)
            self.run.append("stopped", generation.attempt.generation, generation.attempt.number, reason)
            self.action, self._ended = "stop", True

    def validate_review(self, generation: "Generation", review: ReviewDecision) -> str:
        """Return why a review decision cannot be applied; empty if it can."""
        known_ids = {*read_table(generation.corpus.folder, ["id"])["id"].to_pylist()}
        if generation.curated:
            known_ids |= {*read_table(generation.curated.candidates.folder, ["id"])["id"].to_pylist()}
        unknown_ids = [record_id for record_id in review.rejected_ids if record_id not in known_ids]
        if not unknown_ids:
            return ""
        return f"generation {generation.attempt.generation} has no record {', '.join(unknown_ids)}"

    def _accept(self, generation: "Generation") -> None:
        self.accepted.append(generation)
        self.run.append("accepted", generation.attempt.generation, generation.attempt.number)
        self._attempt_number = 1

    def _retry_as_reviewed(self, generation: "Generation", num_human: int, review: ReviewDecision) -> None:
        reason, fraction = _review_reason("redone", review), review.human_fraction
        if fraction is None:
            self._reject(generation.attempt, reason, redone=1)
            self._attempt_number += 1
            return
        num_survivors = 0
        if generation.curated:
            num_survivors = read_manifest(generation.curated.decisions.folder)["facts"]["survivors"]
        num_records = _largest_corpus(
            read_manifest(generation.corpus.folder)["rows"], fraction, num_human, num_survivors
        )
        self._reject(generation.attempt, reason, human_fraction=fraction, records=num_records)
        self._increase_human_fraction(fraction, num_records)

    def _retry_with_more_human(self, generation: "Generation", num_human: int) -> str:
        """Reject the attempt in favor of one with more human records, or return why there can be none."""
        gate, corpus = self.recipe.gate, read_manifest(generation.corpus.folder)
        num_records, num_human_before = corpus["rows"], corpus["facts"]["human"]
        fraction = min(1.0, num_human_before / num_records + gate.human_fraction_step)
        num_human_needed = round(num_records * fraction)
        if num_human_before >= min(num_records, num_human):
            return (
                f"the human share cannot be raised, since the corpus has all {num_human_before:,} human records "
                "that it can have"
            )
        if num_human_needed > num_human:
            return (
                f"a human share of {fraction:.3g} of {num_records:,} records needs {num_human_needed:,} human records, "
                f"and there are {num_human:,}"
            )
        if generation.attempt.number > gate.max_retries:
            times = "time" if gate.max_retries == 1 else "times"
            return f"raising the human share {gate.max_retries} {times} (gate.max_retries) did not help"
        reason = f"{generation.reasons}; redone with a human share of {fraction:.3g}"
        self._reject(generation.attempt, reason, human_fraction=fraction, records=num_records)
        self._increase_human_fraction(fraction, num_records)
        return ""

    def _roll_back(self, generation: "Generation") -> str:
        """Reject every generation since a limit was first broken, or return why no generation can be restored."""
        first_broken = read_manifest(generation.verdict.folder)["facts"]["first_generation"]
        if first_broken == 0:
            return "there is no good generation to go back to"
        reason = f"{generation.reasons}; back to generation {first_broken - 1}"
        for attempt in [*(accepted.attempt for accepted in self.accepted[first_broken:]), generation.attempt]:
            self._reject(attempt, reason)
        self.run.append("rolled_back", generation.attempt.generation, generation.attempt.number, reason)
        self.accepted, self._ended = self.accepted[:first_broken], True
        return ""

    def _reject(self, attempt: Attempt, reason: str, **details: float) -> None:
        self.run.append("rejected", attempt.generation, attempt.number, reason, **details)

    def _increase_human_fraction(self, fraction: float, num_records: int) -> None:
        """Mix the next attempt, and all later generations, with this human share; other settings of `[mix]` stay."""
        mix = self.recipe.mix
        changed = {
            "policy": "fixed-fraction",
            "human_fraction": fraction,
            "num_records": num_records,
            "human_source_shares": mix.human_source_shares or "proportional",
            # Weights belong to the policy that is replaced.
            "mixture_weights": None,
        }
        self.recipe = self.recipe.model_copy(
            update={"mix": MixSettings.model_validate({**mix.model_dump(), **changed})}
        )
        self._attempt_number += 1


def _largest_corpus(num_records: int, human_fraction: float, num_human: int, num_survivors: int) -> int:
    """Return the size, at most `num_records`, of the largest corpus with this human share."""
    # Another attempt may keep fewer candidates.
    num_synthetic = num_survivors * 9 // 10
    limits: list[float] = [num_records]
    if human_fraction:
        limits.append(num_human / human_fraction)
    if human_fraction < 1:
        limits.append(num_synthetic / (1 - human_fraction))
    return max(1, int(min(limits)))


def _review_reason(outcome: str, review: ReviewDecision) -> str:
    reason = f": {review.reason}" if review.reason else ""
    return f"{outcome} in the review by {review.reviewer}{reason}"
