"""The order of the sieves, and one decision for every record and sieve that looked at it.

exact -> overlap with the held-out set -> overlap with the reserve -> near-duplicates -> semantic -> diversity.
A sieve that is left out of `stages` is off; a record that one sieve dropped is not shown to the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.diversity import DiversitySettings, choose_diverse
from curation.duplicates import Duplicates
from curation.embedding import Encoder, Vectors
from curation.exact import find_exact_duplicates
from curation.minhash import MinHashSettings, find_near_duplicates
from curation.semantic import SemanticSettings, find_semantic_duplicates
from curation.text import words

Stage = Literal["empty", "exact", "contamination", "copying", "minhash", "semantic", "diversity"]


class CurateSettings(BaseModel):
    """`[curate]`: which sieves a candidate passes, in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[Stage, ...] = Field(
        ("empty", "exact", "contamination", "copying", "minhash", "semantic", "diversity"),
        description="sieves that are on; an empty list keeps every candidate",
    )
    overlap_threshold: float = Field(
        0.6, gt=0, le=1, description="Jaccard similarity to a held-out or reserve record at or above which a candidate repeats it"
    )
    encoder: str = Field("minilm", description="who turns text into vectors: minilm, hashing, or a sentence-transformers model")
    minhash: MinHashSettings = MinHashSettings()
    semantic: SemanticSettings = SemanticSettings()
    diversity: DiversitySettings = DiversitySettings()


@dataclass(frozen=True)
class Known:
    """Texts that candidates are held against, with the ids and generations that decisions name."""

    ids: Sequence[str]
    texts: Sequence[str]
    generations: Sequence[int]


@dataclass(frozen=True)
class Decision:
    """One sieve's word on one record; `keeper` is who stays instead, where there is one."""

    id: str
    stage: str
    kept: bool
    reason: str
    keeper: str | None = None
    keeper_generation: int | None = None
    evidence: float | None = None
    estimate: float | None = None


def decide(
    candidates: Known,
    heldout: Known,
    reserve: Known,
    earlier: Known,
    settings: CurateSettings,
    encoder: Callable[[], Encoder],
    told: Callable[[str, int], None],
) -> list[Decision]:
    """Every decision, sieve by sieve; `told` hears of each sieve before it starts, with the records it gets.

    `earlier` are survivors of earlier generations. The encoder is opened only if a sieve needs it.
    """
    alive = np.arange(len(candidates.ids))
    decisions: list[Decision] = []
    vectors: Vectors | None = None
    for stage in settings.stages:
        told(stage, len(alive))
        texts = [candidates.texts[row] for row in alive]
        if stage in ("semantic", "diversity") and vectors is None:
            vectors = np.zeros((len(candidates.texts), 1), np.float32)
            found = encoder().encode(texts) if texts else vectors[:0]
            vectors = np.zeros((len(candidates.texts), found.shape[1]), np.float32)
            vectors[alive] = found
        if stage == "diversity":
            assert vectors is not None
            made, stays = _by_diversity([candidates.ids[row] for row in alive], vectors[alive], settings.diversity)
        elif stage == "empty":
            made, stays = _by_words([candidates.ids[row] for row in alive], texts)
        else:
            known = {"contamination": heldout, "copying": reserve, "minhash": earlier, "exact": earlier}.get(stage, _NONE)
            answer = _search(stage, texts, known.texts, settings, None if vectors is None else vectors[alive])
            made, stays = _by_duplicates(stage, alive, candidates, known, answer)
        decisions += made
        alive = alive[stays]
    return decisions


_NONE = Known((), (), ())
_REASONS = {
    "exact": "says the same",
    "contamination": "repeats a held-out record",
    "copying": "copies a human record",
    "minhash": "says nearly the same",
    "semantic": "means the same",
}


def _search(
    stage: str, texts: Sequence[str], reference: Sequence[str], settings: CurateSettings, vectors: Vectors | None
) -> Duplicates:
    if stage == "exact":
        return find_exact_duplicates(texts, reference)
    if stage == "semantic":
        assert vectors is not None
        return find_semantic_duplicates(vectors, vectors[:0], settings.semantic)
    if stage == "minhash":
        return find_near_duplicates(texts, reference, settings.minhash)
    overlap = settings.minhash.model_copy(update={"threshold": settings.overlap_threshold})
    answer = find_near_duplicates(texts, reference, overlap)
    among_themselves = answer.keeper >= len(reference)
    answer.keeper[among_themselves] = -1
    return answer


def _by_duplicates(
    stage: str, alive: NDArray[np.int64], candidates: Known, known: Known, answer: Duplicates
) -> tuple[list[Decision], NDArray[np.bool_]]:
    decisions = []
    for place, row in enumerate(alive):
        keeper = int(answer.keeper[place])
        who: tuple[str | None, int | None] = (None, None)
        if keeper >= len(known.ids):
            other = alive[keeper - len(known.ids)]
            who = (candidates.ids[other], candidates.generations[other])
        elif keeper >= 0:
            who = (known.ids[keeper], known.generations[keeper])
        decisions.append(
            Decision(
                candidates.ids[row],
                stage,
                keeper < 0,
                _REASONS[stage] if keeper >= 0 else "",
                *who,
                evidence=_number(answer.similarity[place]),
                estimate=_number(answer.estimate[place]),
            )
        )
    return decisions, answer.kept


def _by_diversity(
    ids: Sequence[str], vectors: Vectors, settings: DiversitySettings
) -> tuple[list[Decision], NDArray[np.bool_]]:
    gains = choose_diverse(vectors, round(settings.keep_fraction * len(ids)))
    stays = ~np.isnan(gains)
    decisions = [
        Decision(identity, "diversity", bool(kept), "" if kept else "others already cover it", evidence=_number(gain))
        for identity, kept, gain in zip(ids, stays, gains, strict=True)
    ]
    return decisions, stays


def _by_words(ids: Sequence[str], texts: Sequence[str]) -> tuple[list[Decision], NDArray[np.bool_]]:
    counts = [len(words(text)) for text in texts]
    decisions = [
        Decision(identity, "empty", count > 0, "" if count else "has no word", evidence=float(count))
        for identity, count in zip(ids, counts, strict=True)
    ]
    return decisions, np.array([count > 0 for count in counts], bool)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
