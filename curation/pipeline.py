"""The order of the sieves, and one decision for every record and sieve that looked at it.

Sieves are passed in the order of `stages`, and one that is left out is off; a record that one sieve dropped is
not shown to the next. What a sieve looks for is said in the file of its name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.decisions import (
    NOBODY,
    Decision,
    Duplicates,
    Faults,
    Known,
    as_number,
    by_duplicates,
    by_faults,
    by_gains,
    by_scores,
)
from curation.dedup.dedup import find_repeats
from curation.dedup.minhash import MinHashSettings
from curation.dedup.reference import Past
from curation.dedup.semantic import SemanticSettings, find_semantic_duplicates
from curation.embeddings.base import EmbeddingSettings, Vectors
from curation.embeddings.encoders import resolve_embedding
from curation.filters.decontamination import OverlapSettings, find_overlaps
from curation.filters.importance import ImportanceSettings, SurpriseSettings, find_unimportant, find_unsurprising
from curation.filters.language import LanguageSettings, find_language_faults
from curation.filters.pii import PiiSettings, find_pii_faults
from curation.filters.quality import QualitySettings, find_quality_faults
from curation.selection.best_of import BestOfSettings, best_of, distances, scores
from curation.selection.diversity import DiversitySettings, choose_diverse
from curation.text import words

Stage = Literal[
    "empty",
    "best_of",
    "exact",
    "quality",
    "language",
    "pii",
    "contamination",
    "copying",
    "minhash",
    "surprise",
    "importance",
    "semantic",
    "diversity",
]


class CurateSettings(BaseModel):
    """`[curate]`: which sieves a candidate passes, in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stages: tuple[Stage, ...] = Field(
        ("empty", "exact", "contamination", "copying", "minhash", "semantic", "diversity"),
        description="sieves that are on, in this order; an empty list keeps every candidate; there are also "
        "best_of, quality, language, pii, surprise, importance",
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
        "minilm",
        description="who turns text into vectors: minilm, hashing, numbers (points), or a sentence-transformers model",
    )
    embedding: EmbeddingSettings = EmbeddingSettings()
    best_of: BestOfSettings = BestOfSettings()
    quality: QualitySettings = QualitySettings()
    language: LanguageSettings = LanguageSettings()
    pii: PiiSettings = PiiSettings()
    minhash: MinHashSettings = MinHashSettings()
    surprise: SurpriseSettings = SurpriseSettings()
    importance: ImportanceSettings = ImportanceSettings()
    semantic: SemanticSettings = SemanticSettings()
    diversity: DiversitySettings = DiversitySettings()

    @property
    def looks_at_meaning(self) -> bool:
        """Whether a sieve that is on needs vectors."""
        by_distance = "best_of" in self.stages and self.best_of.objective == "distance"
        return by_distance or bool({"semantic", "diversity"} & set(self.stages))

    @property
    def overlap(self) -> OverlapSettings:
        """What counts as overlapping a withheld record, for candidates and for the reserve."""
        return OverlapSettings(
            threshold=self.overlap_threshold,
            shingle_words=self.minhash.shingle_words,
            shared_words=self.shared_words,
        )

    def likeness(self, stage: str) -> MinHashSettings:
        """What counts as saying nearly the same in the sieve `minhash` or `copying`."""
        if stage == "minhash":
            return self.minhash
        return self.minhash.model_copy(update={"threshold": self.overlap_threshold})

    def resolved(self, before: Mapping[str, Any] | None = None) -> Self:
        """The settings with every `auto` decided: as they were `before`, or else by what this machine has.

        Raises:
            ValueError: what they ask for is not installed.
        """
        if not self.looks_at_meaning:
            return self
        was = (before or {}).get("embedding")
        return self.model_copy(update={"embedding": resolve_embedding(self.encoder, self.embedding, was)})


@dataclass(frozen=True)
class Traits:
    """What a choice may go by beside the vectors, one entry a text."""

    sources: Sequence[str]
    log_probabilities: NDArray[np.float64]
    """Mean of a token, in nats; NaN where it is not known."""
    prompts: Sequence[str] = ()
    askings: Sequence[int] = ()
    """Numbers of the prompts: answers to one prompt have the same."""


_Describe: TypeAlias = Callable[[Known], Traits] | None


def decide(
    alive: Known,
    withheld: Known,
    reserve: Known,
    earlier: Known,
    settings: CurateSettings,
    stages: Sequence[Stage],
    embed: Callable[[Known], Vectors],
    describe: Callable[[Known], Traits] | None = None,
    meant: Known | None = None,
    exist: Callable[[], Vectors] = lambda: np.zeros((0, 0), np.float32),
    past: Mapping[str, Past] | None = None,
) -> Iterator[list[Decision]]:
    """The decisions of one sieve after another; `stages` are those still to be passed.

    `withheld` are held-out records and evaluation sets, `earlier` survivors of earlier generations. `embed` is asked
    once, and only if a sieve needs vectors, `exist` for those of the reserve and of `earlier`, `describe` where one goes by sources,
    prompts or log-probabilities; `meant` are the records that the sieve of meaning also holds candidates against, none in a run.
    `past` gives a sieve of duplicates texts that were sketched before, in the place of those it would have been given whole.
    """
    vectors: Vectors | None = None
    before = np.zeros((0, 0), np.float32)
    against = {"copying": reserve, "minhash": earlier, "exact": earlier} | dict(past or {})
    for stage in stages:
        by_distance = stage == "best_of" and settings.best_of.objective == "distance"
        if (stage in ("semantic", "diversity") or by_distance) and vectors is None:
            vectors = embed(alive)
        if stage == "semantic" and meant:
            before = embed(meant)
        if stage == "diversity":
            made = by_gains(alive, _gains(alive, cast("Vectors", vectors), settings.diversity, describe))
        elif stage == "best_of":
            made = _chosen(alive, by_distance and (cast("Vectors", vectors), exist()), settings.best_of, describe)
        elif stage in _FAULTS:
            made = by_faults(stage, alive, _FAULTS[stage](alive, reserve, settings, describe))
        elif stage == "contamination":
            made = find_contamination(alive, withheld, settings.overlap)
        elif stage == "semantic":
            made = by_duplicates(stage, alive, meant or NOBODY, _meaning(vectors, before, settings))
        else:
            made = find_repeats(stage, alive, against[stage], settings.likeness(stage))
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
            evidence=float(run) if keeper >= 0 and not repeats else as_number(similarity),
        )
        for identity, keeper, repeats, similarity, run in zip(
            texts.ids, found.keeper.tolist(), found.repeats, found.similarity, found.shared_words, strict=True
        )
    ]


def _gains(alive: Known, vectors: Vectors, settings: DiversitySettings, describe: _Describe) -> NDArray[np.float64]:
    by_words = settings.quality == "words"
    asked = settings.strata == "source" or (settings.diversity_weight < 1 and not by_words)
    traits = describe(alive) if describe and asked else None
    strata = np.array(traits.sources, np.str_) if traits and settings.strata == "source" else None
    quality = traits.log_probabilities if traits else None
    if by_words:
        quality = np.array([len(words(text)) for text in alive.texts], np.float64)
    return choose_diverse(vectors, settings, strata, quality)


def _chosen(
    alive: Known, compared: tuple[Vectors, Vectors] | Literal[False], settings: BestOfSettings, describe: _Describe
) -> list[Decision]:
    told = describe(alive) if describe else Traits((), np.zeros(0))
    askings = np.array(told.askings, np.int64)
    worth = distances(*compared) if compared else scores(settings, told.prompts, alive.texts)
    return by_scores(alive, askings, worth, best_of(askings, worth))


def _meaning(vectors: Vectors | None, before: Vectors, settings: CurateSettings) -> Duplicates:
    assert vectors is not None
    return find_semantic_duplicates(vectors, before if len(before) else vectors[:0], settings.semantic)


def _without_words(texts: Sequence[str]) -> Faults:
    counts = np.array([len(words(text)) for text in texts], np.float64)
    return Faults(["" if count else "has no word" for count in counts], counts)


def _surprise(alive: Known, describe: _Describe) -> NDArray[np.float64]:
    return -describe(alive).log_probabilities if describe else np.full(len(alive.ids), np.nan)


_FAULTS: dict[str, Callable[[Known, Known, CurateSettings, _Describe], Faults]] = {
    "empty": lambda alive, *_: _without_words(alive.texts),
    "quality": lambda alive, _, settings, __: find_quality_faults(alive.texts, settings.quality),
    "language": lambda alive, _, settings, __: find_language_faults(alive.texts, settings.language),
    "pii": lambda alive, _, settings, __: find_pii_faults(alive.texts, settings.pii),
    "surprise": lambda alive, _, settings, describe: find_unsurprising(_surprise(alive, describe), settings.surprise),
    "importance": lambda alive, reserve, settings, _: find_unimportant(alive.texts, reserve.texts, settings.importance),
}
