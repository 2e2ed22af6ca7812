"""The one answer that every search for duplicates gives: for each row, who already says it, and how surely.

Rows are numbered over the reference first and the new texts after it, so the earlier one is always the
keeper. A row goes only because of a keeper that it was directly compared with and that itself stays.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DuplicateMatches:
    """One entry a new text."""

    duplicate_of: NDArray[np.int64]
    """Row of the keeper over reference and new texts together; -1 where the text stays."""
    similarity: NDArray[np.float64]
    """Verified similarity to the keeper, or to the nearest kept text it was verified against; NaN where there was none."""
    estimated: NDArray[np.float64]
    """The sketch's estimate of it, where a sketch was used; NaN elsewhere."""
    masked: int = 0
    """Shingles that were left out of the comparison because a large share of the texts has them."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether each new text stays."""
        return self.duplicate_of < 0

    @classmethod
    def all_kept(cls, rows: int) -> "DuplicateMatches":
        """An answer for `rows` texts, all of which stay so far; to be filled in."""
        return cls(np.full(rows, -1, np.int64), np.full(rows, np.nan), np.full(rows, np.nan))


@dataclass(frozen=True)
class FilterResult:
    """One entry a text."""

    reason: Sequence[str]
    """Why the text goes; empty where it stays."""
    score: NDArray[np.float64]
    """The number acted on; NaN where there is none."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether each text stays."""
        return np.array([not reason for reason in self.reason], bool)


@dataclass(frozen=True)
class RecordSet:
    """Texts that candidates are held against, with the ids and generations that decisions name."""

    ids: Sequence[str]
    texts: Sequence[str]
    generations: Sequence[int]

    def take(self, places: NDArray[np.int64]) -> "RecordSet":
        """The texts at these places, in their order."""
        taken = places.tolist()
        return RecordSet(*([column[place] for place in taken] for column in (self.ids, self.texts, self.generations)))  # type: ignore[arg-type]

    def exclude(self, ids: Collection[str]) -> "RecordSet":
        """All but the texts of these ids."""
        gone = set(ids)
        return self.take(np.flatnonzero([identity not in gone for identity in self.ids]))


@dataclass(frozen=True, slots=True)
class Decision:
    """One sieve's word on one record; `duplicate_of` is who stays instead, where there is one."""

    id: str
    filter: str
    kept: bool
    reason: str
    duplicate_of: str | None = None
    duplicate_of_generation: int | None = None
    score: float | None = None
    estimated_jaccard: float | None = None


EMPTY_RECORDS = RecordSet((), (), ())


class RecordRefs(Protocol):
    """Texts by their ids, and the generations they were born in."""

    @property
    def ids(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def generations(self) -> Sequence[int]: ...  # noqa: D102


def decisions_from_duplicates(
    stage: str, records: RecordSet, known: RecordRefs, matches: DuplicateMatches
) -> list[Decision]:
    """Dropped where another text already says it; rows of the answer count over `known` and `records` together."""
    ids, generations = [*known.ids, *records.ids], [*known.generations, *records.generations]
    return [
        Decision(
            identity,
            stage,
            kept=keeper < 0,
            reason=_REASONS[stage] if keeper >= 0 else "",
            duplicate_of=ids[keeper] if keeper >= 0 else None,
            duplicate_of_generation=generations[keeper] if keeper >= 0 else None,
            score=as_number(similarity),
            estimated_jaccard=as_number(estimate),
        )
        for identity, keeper, similarity, estimate in zip(
            records.ids,
            matches.duplicate_of.tolist(),
            matches.similarity.tolist(),
            matches.estimated.tolist(),
            strict=True,
        )
    ]


def decisions_from_filter(stage: str, records: RecordSet, result: FilterResult) -> list[Decision]:
    """Dropped where there is a fault."""
    return [
        Decision(identity, stage, kept=not reason, reason=reason, score=as_number(number))
        for identity, reason, number in zip(records.ids, result.reason, result.score.tolist(), strict=True)
    ]


def decisions_from_selection(records: RecordSet, gains: NDArray[np.float64]) -> list[Decision]:
    """Dropped where there is no gain: the rows that were not chosen."""
    return [
        Decision(
            identity,
            "diversity",
            kept := not math.isnan(gain),
            "" if kept else "others already cover it",
            score=as_number(gain),
        )
        for identity, gain in zip(records.ids, gains.tolist(), strict=True)
    ]


def decisions_from_scores(
    records: RecordSet, prompt_ids: NDArray[np.int64], scores: NDArray[np.float64], kept: NDArray[np.bool_]
) -> list[Decision]:
    """Dropped where another answer to the same prompt is better; the evidence is the score, of those that stay too."""
    best = {int(prompt_ids[place]): place for place in np.flatnonzero(kept)}
    made = []
    for place, (asking, score, stays) in enumerate(
        zip(prompt_ids.tolist(), scores.tolist(), kept.tolist(), strict=True)
    ):
        winner = None if stays else best.get(asking)
        reason = (
            "" if stays else "cannot be judged" if winner is None or math.isnan(score) else "another answer is better"
        )
        decision = Decision(records.ids[place], "best_of", kept=stays, reason=reason, score=as_number(score))
        if winner is not None:
            decision = replace(
                decision, duplicate_of=records.ids[winner], duplicate_of_generation=records.generations[winner]
            )
        made.append(decision)
    return made


def as_number(value: float) -> float | None:
    """The number, or nothing where there is none."""
    return None if math.isnan(value) else float(value)


_REASONS = {
    "exact": "says the same",
    "human_overlap": "copies a human record",
    "minhash": "says nearly the same",
    "semantic": "means the same",
}
