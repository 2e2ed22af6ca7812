"""The order of the sieves, and one decision for every record and sieve that looked at it.

exact -> overlap with what is withheld -> overlap with the reserve -> near-duplicates -> semantic -> diversity.
A sieve that is left out of `stages` is off; a record that one sieve dropped is not shown to the next.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.diversity import DiversitySettings, choose_diverse
from curation.duplicates import Duplicates
from curation.embedding import EmbeddingSettings, Vectors, resolve_embedding
from curation.exact import find_exact_duplicates
from curation.minhash import MinHashSettings, find_near_duplicates
from curation.overlap import OverlapSettings, find_overlaps
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
        0.6,
        gt=0,
        le=1,
        description="Jaccard similarity to a withheld or reserve record at or above which a candidate repeats it",
    )
    shared_words: int = Field(
        13,
        ge=2,
        description="words in a row, or all of a withheld record of 8 or more, with which a text quotes it",
    )
    encoder: str = Field(
        "minilm", description="who turns text into vectors: minilm, hashing, or a sentence-transformers model"
    )
    embedding: EmbeddingSettings = EmbeddingSettings()
    minhash: MinHashSettings = MinHashSettings()
    semantic: SemanticSettings = SemanticSettings()
    diversity: DiversitySettings = DiversitySettings()

    @property
    def overlap(self) -> OverlapSettings:
        """What counts as overlapping a withheld record, for candidates and for the reserve."""
        return OverlapSettings(
            threshold=self.overlap_threshold,
            shingle_words=self.minhash.shingle_words,
            shared_words=self.shared_words,
        )

    def resolved(self, before: Mapping[str, Any] | None = None) -> Self:
        """The settings with every `auto` decided: as they were `before`, or else by what this machine has.

        Raises:
            ValueError: what they ask for is not installed.
        """
        if not {"semantic", "diversity"} & set(self.stages):
            return self
        was = (before or {}).get("embedding")
        return self.model_copy(update={"embedding": resolve_embedding(self.encoder, self.embedding, was)})


@dataclass(frozen=True)
class Known:
    """Texts that candidates are held against, with the ids and generations that decisions name."""

    ids: Sequence[str]
    texts: Sequence[str]
    generations: Sequence[int]

    def rows(self, places: NDArray[np.int64]) -> "Known":
        """The texts at these places, in their order."""
        taken = places.tolist()
        return Known(*([column[place] for place in taken] for column in (self.ids, self.texts, self.generations)))  # type: ignore[arg-type]

    def without(self, ids: Collection[str]) -> "Known":
        """All but the texts of these ids."""
        gone = set(ids)
        return self.rows(np.flatnonzero([identity not in gone for identity in self.ids]))


@dataclass(frozen=True)
class Traits:
    """What a choice may go by beside the vectors, one entry a text."""

    sources: Sequence[str]
    log_probabilities: NDArray[np.float64]
    """Mean of a token, in nats; NaN where it is not known."""


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
    alive: Known,
    withheld: Known,
    reserve: Known,
    earlier: Known,
    settings: CurateSettings,
    stages: Sequence[Stage],
    embed: Callable[[Known], Vectors],
    describe: Callable[[Known], Traits] | None = None,
) -> Iterator[list[Decision]]:
    """The decisions of one sieve after another; `stages` are those still to be passed.

    `withheld` are held-out records and evaluation sets. `earlier` are survivors of earlier generations. `embed` is asked
    once, and only if a sieve needs vectors; `describe` only if the settings of diversity ask for sources or log-probabilities.
    """
    vectors: Vectors | None = None
    against = {"copying": reserve, "minhash": earlier, "exact": earlier}
    for stage in stages:
        if stage in ("semantic", "diversity") and vectors is None:
            vectors = embed(alive)
        if stage == "diversity":
            made = _by_diversity(alive, cast("Vectors", vectors), settings.diversity, describe)
        elif stage == "empty":
            made = _by_words(alive)
        elif stage == "contamination":
            made = find_contamination(alive, withheld, settings.overlap)
        else:
            known = against.get(stage, _NONE)
            made = _by_duplicates(stage, alive, known, _search(stage, alive.texts, known.texts, settings, vectors))
        yield made
        stays = np.flatnonzero([decision.kept for decision in made])
        alive = alive.rows(stays)
        vectors = None if vectors is None else vectors[stays]


def find_contamination(texts: Known, withheld: Known, settings: OverlapSettings) -> list[Decision]:
    """One decision a text: dropped if it repeats a withheld record, or quotes one.

    The evidence is the largest Jaccard similarity; of a text that only quotes, the words of the run it shares.
    """
    found = find_overlaps(texts.texts, withheld.texts, settings)
    return [
        Decision(
            identity,
            "contamination",
            kept=keeper < 0,
            reason="" if keeper < 0 else "repeats a withheld record" if repeats else "quotes a withheld record",
            keeper=withheld.ids[keeper] if keeper >= 0 else None,
            keeper_generation=withheld.generations[keeper] if keeper >= 0 else None,
            evidence=float(run) if keeper >= 0 and not repeats else _number(similarity),
        )
        for identity, keeper, repeats, similarity, run in zip(
            texts.ids, found.keeper.tolist(), found.repeats, found.similarity, found.shared_words, strict=True
        )
    ]


_NONE = Known((), (), ())
_REASONS = {
    "exact": "says the same",
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
    return find_near_duplicates(texts, reference, overlap, among_texts=False)


def _by_duplicates(stage: str, alive: Known, known: Known, answer: Duplicates) -> list[Decision]:
    ids, generations = [*known.ids, *alive.ids], [*known.generations, *alive.generations]
    return [
        Decision(
            identity,
            stage,
            kept=keeper < 0,
            reason=_REASONS[stage] if keeper >= 0 else "",
            keeper=ids[keeper] if keeper >= 0 else None,
            keeper_generation=generations[keeper] if keeper >= 0 else None,
            evidence=_number(similarity),
            estimate=_number(estimate),
        )
        for identity, keeper, similarity, estimate in zip(
            alive.ids, answer.keeper.tolist(), answer.similarity, answer.estimate, strict=True
        )
    ]


def _by_diversity(
    alive: Known, vectors: Vectors, settings: DiversitySettings, describe: Callable[[Known], Traits] | None
) -> list[Decision]:
    by_words = settings.quality == "words"
    asked = settings.strata == "source" or (settings.diversity_weight < 1 and not by_words)
    traits = describe(alive) if describe and asked else None
    strata = np.array(traits.sources, np.str_) if traits and settings.strata == "source" else None
    quality = traits.log_probabilities if traits else None
    if by_words:
        quality = np.array([len(words(text)) for text in alive.texts], np.float64)
    gains = choose_diverse(vectors, settings, strata, quality)
    return [
        Decision(
            identity,
            "diversity",
            kept := not np.isnan(gain),
            "" if kept else "others already cover it",
            evidence=_number(gain),
        )
        for identity, gain in zip(alive.ids, gains, strict=True)
    ]


def _by_words(alive: Known) -> list[Decision]:
    counts = [len(words(text)) for text in alive.texts]
    return [
        Decision(identity, "empty", count > 0, "" if count else "has no word", evidence=float(count))
        for identity, count in zip(alive.ids, counts, strict=True)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
