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
    EMPTY_RECORDS,
    Decision,
    DuplicateMatches,
    FilterResult,
    RecordSet,
    as_number,
    decisions_from_duplicates,
    decisions_from_filter,
    decisions_from_scores,
    decisions_from_selection,
)
from curation.dedup.dedup import find_duplicates
from curation.dedup.minhash import MinHashSettings
from curation.dedup.reference import ReferenceIndex
from curation.dedup.semantic import SemanticSettings, find_semantic_duplicates
from curation.embeddings.base import EmbeddingSettings, Vectors
from curation.embeddings.encoders import resolve_embedding
from curation.filters.decontamination import OverlapSettings, find_overlaps
from curation.filters.importance import (
    ImportanceSettings,
    PerplexityFilterSettings,
    importance_filter,
    perplexity_filter,
)
from curation.filters.language import LanguageSettings, language_filter
from curation.filters.pii import PiiSettings, pii_filter
from curation.filters.quality import QualitySettings, quality_filter
from curation.selection.best_of import BestOfSettings, nearest_distance, score_responses, select_best_of_n
from curation.selection.diversity import DiversitySettings, select_diverse
from curation.text import words

FilterName = Literal[
    "empty",
    "best_of",
    "exact",
    "quality",
    "language",
    "pii",
    "decontamination",
    "human_overlap",
    "minhash",
    "perplexity",
    "importance_resampling",
    "semantic",
    "diversity",
]


class CurateSettings(BaseModel):
    """`[curate]`: which sieves a candidate passes, in this order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filters: tuple[FilterName, ...] = Field(
        ("empty", "exact", "decontamination", "human_overlap", "minhash", "semantic", "diversity"),
        description="sieves that are on, in this order; an empty list keeps every candidate; there are also "
        "best_of, quality, language, pii, perplexity, importance_resampling",
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
    perplexity: PerplexityFilterSettings = PerplexityFilterSettings()
    importance_resampling: ImportanceSettings = ImportanceSettings()
    semantic: SemanticSettings = SemanticSettings()
    diversity: DiversitySettings = DiversitySettings()

    @property
    def needs_embeddings(self) -> bool:
        """Whether a sieve that is on needs vectors."""
        by_distance = "best_of" in self.filters and self.best_of.objective == "distance"
        return by_distance or bool({"semantic", "diversity"} & set(self.filters))

    @property
    def overlap(self) -> OverlapSettings:
        """What counts as overlapping a withheld record, for candidates and for the reserve."""
        return OverlapSettings(
            jaccard_threshold=self.overlap_threshold,
            ngram_length_jaccard=self.minhash.shingle_words,
            ngram_length=self.shared_words,
        )

    def minhash_for(self, stage: str) -> MinHashSettings:
        """What counts as saying nearly the same in the sieve `minhash` or `human_overlap`."""
        if stage == "minhash":
            return self.minhash
        return self.minhash.model_copy(update={"threshold": self.overlap_threshold})

    def resolve_auto(self, before: Mapping[str, Any] | None = None) -> Self:
        """The settings with every `auto` decided: as they were `before`, or else by what this machine has.

        Raises:
            HeirloomError: what they ask for is not installed.
        """
        if not self.needs_embeddings:
            return self
        was = (before or {}).get("embedding")
        return self.model_copy(update={"embedding": resolve_embedding(self.encoder, self.embedding, was)})


@dataclass(frozen=True)
class RecordMetadata:
    """What a choice may go by beside the vectors, one entry a text."""

    sources: Sequence[str]
    mean_logprobs: NDArray[np.float64]
    """Mean of a token, in nats; NaN where it is not known."""
    prompts: Sequence[str] = ()
    prompt_ids: Sequence[int] = ()
    """Numbers of the prompts: answers to one prompt have the same."""


_Describe: TypeAlias = Callable[[RecordSet], RecordMetadata] | None


def run_filters(
    records: RecordSet,
    protected: RecordSet,
    human_train: RecordSet,
    survivors: RecordSet,
    settings: CurateSettings,
    stages: Sequence[FilterName],
    embed: Callable[[RecordSet], Vectors],
    load_metadata: Callable[[RecordSet], RecordMetadata] | None = None,
    semantic_reference: RecordSet | None = None,
    load_reference_vectors: Callable[[], Vectors] = lambda: np.zeros((0, 0), np.float32),
    indexes: Mapping[str, ReferenceIndex] | None = None,
) -> Iterator[list[Decision]]:
    """The decisions of one sieve after another; `stages` are those still to be passed.

    `withheld` are held-out records and evaluation sets, `earlier` survivors of earlier generations. `embed` is asked
    once, and only if a sieve needs vectors, `exist` for those of the reserve and of `earlier`, `describe` where one goes by sources,
    prompts or log-probabilities; `meant` are the records that the sieve of meaning also holds candidates against, none in a run.
    `past` gives a sieve of duplicates texts that were sketched before, in the place of those it would have been given whole.
    """
    vectors: Vectors | None = None
    before = np.zeros((0, 0), np.float32)
    against = {"human_overlap": human_train, "minhash": survivors, "exact": survivors} | dict(indexes or {})
    for stage in stages:
        by_distance = stage == "best_of" and settings.best_of.objective == "distance"
        if (stage in ("semantic", "diversity") or by_distance) and vectors is None:
            vectors = embed(records)
        if stage == "semantic" and semantic_reference:
            before = embed(semantic_reference)
        if stage == "diversity":
            made = decisions_from_selection(
                records, _gains(records, cast("Vectors", vectors), settings.diversity, load_metadata)
            )
        elif stage == "best_of":
            made = _chosen(
                records,
                by_distance and (cast("Vectors", vectors), load_reference_vectors()),
                settings.best_of,
                load_metadata,
            )
        elif stage in _FAULTS:
            made = decisions_from_filter(stage, records, _FAULTS[stage](records, human_train, settings, load_metadata))
        elif stage == "decontamination":
            made = decontaminate(records, protected, settings.overlap)
        elif stage == "semantic":
            made = decisions_from_duplicates(
                stage, records, semantic_reference or EMPTY_RECORDS, _meaning(vectors, before, settings)
            )
        else:
            made = find_duplicates(stage, records, against[stage], settings.minhash_for(stage))
        yield made
        stays = np.flatnonzero([decision.kept for decision in made])
        records = records.take(stays)
        vectors = None if vectors is None else vectors[stays]


def decontaminate(texts: RecordSet, protected: RecordSet, settings: OverlapSettings) -> list[Decision]:
    """One decision a text: dropped if it repeats a withheld record, or quotes one.

    The evidence is the largest Jaccard similarity; of a text that only quotes, the words of the run it shares.
    """
    found = find_overlaps(texts.texts, protected.texts, settings)
    return [
        Decision(
            identity,
            "decontamination",
            kept=keeper < 0,
            reason="" if keeper < 0 else "repeats a withheld record" if repeats else "quotes a withheld record",
            duplicate_of=protected.ids[keeper] if keeper >= 0 else None,
            duplicate_of_generation=protected.generations[keeper] if keeper >= 0 else None,
            score=float(run) if keeper >= 0 and not repeats else as_number(similarity),
        )
        for identity, keeper, repeats, similarity, run in zip(
            texts.ids, found.source_row.tolist(), found.is_near_duplicate, found.jaccard, found.shared_run, strict=True
        )
    ]


def _gains(
    records: RecordSet, vectors: Vectors, settings: DiversitySettings, describe: _Describe
) -> NDArray[np.float64]:
    by_words = settings.quality == "words"
    asked = settings.strata == "source" or (settings.diversity_weight < 1 and not by_words)
    traits = describe(records) if describe and asked else None
    strata = np.array(traits.sources, np.str_) if traits and settings.strata == "source" else None
    quality = traits.mean_logprobs if traits else None
    if by_words:
        quality = np.array([len(words(text)) for text in records.texts], np.float64)
    return select_diverse(vectors, settings, strata, quality)


def _chosen(
    records: RecordSet,
    compared: tuple[Vectors, Vectors] | Literal[False],
    settings: BestOfSettings,
    describe: _Describe,
) -> list[Decision]:
    told = describe(records) if describe else RecordMetadata((), np.zeros(0))
    askings = np.array(told.prompt_ids, np.int64)
    worth = nearest_distance(*compared) if compared else score_responses(settings, told.prompts, records.texts)
    return decisions_from_scores(records, askings, worth, select_best_of_n(askings, worth))


def _meaning(vectors: Vectors | None, before: Vectors, settings: CurateSettings) -> DuplicateMatches:
    assert vectors is not None
    return find_semantic_duplicates(vectors, before if len(before) else vectors[:0], settings.semantic)


def _without_words(texts: Sequence[str]) -> FilterResult:
    counts = np.array([len(words(text)) for text in texts], np.float64)
    return FilterResult(["" if count else "has no word" for count in counts], counts)


def _surprise(records: RecordSet, describe: _Describe) -> NDArray[np.float64]:
    return -describe(records).mean_logprobs if describe else np.full(len(records.ids), np.nan)


_FAULTS: dict[str, Callable[[RecordSet, RecordSet, CurateSettings, _Describe], FilterResult]] = {
    "empty": lambda records, *_: _without_words(records.texts),
    "quality": lambda records, _, settings, __: quality_filter(records.texts, settings.quality),
    "language": lambda records, _, settings, __: language_filter(records.texts, settings.language),
    "pii": lambda records, _, settings, __: pii_filter(records.texts, settings.pii),
    "perplexity": lambda records, _, settings, describe: perplexity_filter(
        _surprise(records, describe), settings.perplexity
    ),
    "importance_resampling": lambda records, reserve, settings, _: importance_filter(
        records.texts, reserve.texts, settings.importance_resampling
    ),
}
