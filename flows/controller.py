"""What follows from a verdict, and from a person's review of it: go on, redo the generation with more human text, go back to a good one, or end.

What was decided is in the journal, and a run that goes on reads it there: rejected attempts are not made again, even where
their files are gone.
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
    """A run on its way: the generations that count, and the recipe as it is in force."""

    run: Run
    recipe: Recipe
    accepted: list["Generation"] = field(default_factory=list)
    action: str = "go"
    """What the last verdict asked for."""
    _number: int = 1
    _ended: bool = False

    def next_attempt(self) -> Attempt | None:
        """The attempt that is next; None at the end."""
        while not self._ended and len(self.accepted) <= self.recipe.num_generations:
            attempt = Attempt(self.run, len(self.accepted), self._number)
            rejected = journal_entry(attempt, "rejected")
            if rejected is None:
                return attempt
            if "human_fraction" in rejected:
                self._increase_human_fraction(rejected["human_fraction"], rejected["records"])
            elif "retried" in rejected:
                self._number += 1
            else:
                self.action, self._ended = "roll_back", True
        return None

    def apply(self, generation: "Generation", num_human: int, review: ReviewDecision | None = None) -> None:
        """Do what a person, or else the gate, says of a finished attempt.

        `reserve` is how many human records there are to mix with.
        """
        if review and review.decision == "redo":
            self._retry_as_reviewed(generation, num_human, review)
            return
        self.action = generation.action
        said = read_manifest(generation.verdict.folder)["facts"]
        refused = ""
        if generation.action == "raise_human_fraction":
            refused = self._retry_with_more_human(generation, num_human)
        elif generation.action == "roll_back":
            refused = self._roll_back(generation, said["first_generation"])
        if generation.action in ("go", "warn", "stop") or refused:
            self._accept(generation)
        if review and review.decision == "stop":
            refused = _said("stopped", review)
        if generation.action == "stop" or refused:
            reason = "; ".join(part for part in (generation.reasons, refused) if part)
            self.run.append("stopped", generation.attempt.generation, generation.attempt.number, reason)
            self.action, self._ended = "stop", True

    def validate_review(self, generation: "Generation", review: ReviewDecision) -> str:
        """What is wrong with a person's decision, in one sentence; empty where it can be followed."""
        known = {*read_table(generation.corpus.folder, ["id"])["id"].to_pylist()}
        if generation.curated:
            known |= {*read_table(generation.curated.candidates.folder, ["id"])["id"].to_pylist()}
        unknown = [one for one in review.rejected_ids if one not in known]
        return f"generation {generation.attempt.generation} has no record {', '.join(unknown)}" if unknown else ""

    def _retry_as_reviewed(self, turn: "Generation", reserve: int, review: ReviewDecision) -> None:
        reason, fraction = _said("redone", review), review.human_fraction
        if fraction is None:
            self._reject(turn.attempt, reason, retried=1)
            self._number += 1
            return
        survivors = read_manifest(turn.curated.decisions.folder)["facts"]["survivors"] if turn.curated else 0
        records = _fitting(read_manifest(turn.corpus.folder)["rows"], fraction, reserve, survivors)
        self._reject(turn.attempt, reason, human_fraction=fraction, records=records)
        self._increase_human_fraction(fraction, records)

    def _accept(self, turn: "Generation") -> None:
        self.accepted.append(turn)
        self.run.append("accepted", turn.attempt.generation, turn.attempt.number)
        self._number = 1

    def _retry_with_more_human(self, turn: "Generation", reserve: int) -> str:
        """Reject the attempt in favour of one with more human text; why that cannot be, if it cannot."""
        gate, corpus = self.recipe.gate, read_manifest(turn.corpus.folder)
        records, before = corpus["rows"], corpus["facts"]["human"]
        fraction = min(1.0, before / records + gate.human_fraction_step)
        asked = round(records * fraction)
        if before >= min(records, reserve):
            return f"the corpus holds all {before:,} human records that it could: there is no human share to raise"
        if asked > reserve:
            return f"a human share of {fraction:.3g} of {records:,} records takes {asked:,} human records, and the reserve has {reserve:,}"
        if turn.attempt.number > gate.max_retries:
            return f"it did not help to raise the human share {gate.max_retries} time{'s' * (gate.max_retries > 1)}: gate.max_retries"
        reason = f"{turn.reasons}; redone with a human share of {fraction:.3g}"
        self._reject(turn.attempt, reason, human_fraction=fraction, records=records)
        self._increase_human_fraction(fraction, records)
        return ""

    def _roll_back(self, turn: "Generation", since: int) -> str:
        """Reject every generation since the limit was first broken; why that cannot be, if it cannot."""
        if since == 0:
            return "there is no good generation to go back to"
        reason = f"{turn.reasons}; back to generation {since - 1}"
        for attempt in [*(past.attempt for past in self.accepted[since:]), turn.attempt]:
            self._reject(attempt, reason)
        self.run.append("rolled_back", turn.attempt.generation, turn.attempt.number, reason)
        self.accepted, self._ended = self.accepted[:since], True
        return ""

    def _reject(self, attempt: Attempt, reason: str, **more: float) -> None:
        self.run.append("rejected", attempt.generation, attempt.number, reason, **more)

    def _increase_human_fraction(self, fraction: float, records: int) -> None:
        """Mix this generation and those that follow with this human share, by exact quotas of the reserve's sources."""
        sources = self.recipe.mix.human_source_shares or "proportional"
        mix = MixSettings(
            policy="fixed-fraction", human_fraction=fraction, num_records=records, human_source_shares=sources
        )
        self.recipe = self.recipe.model_copy(update={"mix": mix})
        self._number += 1


def _fitting(records: int, fraction: float, reserve: int, survivors: int) -> int:
    """The largest corpus, at most so many records, that has this human share of what there is."""
    # Another attempt does not keep exactly as many candidates.
    synthetic = survivors * 9 // 10
    human = reserve / fraction if fraction else records
    return max(1, int(min(records, human, synthetic / (1 - fraction) if fraction < 1 else records)))


def _said(what: str, review: ReviewDecision) -> str:
    return f"{what} in the review by {review.reviewer}{': ' * bool(review.reason)}{review.reason}"
