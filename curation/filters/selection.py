"""Keep the best completion of each prompt, or a diverse subset of all records."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import FilterContext, Need
from curation.selection.best_of import (
    BestOfSettings,
    nearest_distance,
    score_responses,
    select_best_of_n,
    words_per_text,
)
from curation.selection.diversity import DiversitySettings, select_diverse
from heirloom.errors import HeirloomError


@dataclass(frozen=True)
class BestOfFilter:
    """Keeps the completion of each prompt that scores best by the objective."""

    name: ClassVar[str] = "best_of"
    settings: BestOfSettings

    @property
    def needs(self) -> frozenset[Need]:
        """The prompts; and embeddings for the objective `distance`."""
        return frozenset({"metadata", "embeddings"} if self.settings.objective == "distance" else {"metadata"})

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Score the records and compare those of each prompt."""
        metadata = context.metadata(records)
        if metadata is None:
            raise HeirloomError("best_of compares completions of one prompt, and these records have no prompts")
        if self.settings.objective == "distance":
            scores = nearest_distance(context.embeddings(records), context.known_embeddings())
        else:
            scores = score_responses(self.settings, metadata.prompts, records.text_list)
        prompt_ids = np.array(metadata.prompt_ids, np.int64)
        return FilterResult.from_scores(records, prompt_ids, scores, select_best_of_n(prompt_ids, scores))


@dataclass(frozen=True)
class DiversityFilter:
    """Keeps a share of the records that covers the others well; the score is the gain of each record when chosen."""

    name: ClassVar[str] = "diversity"
    settings: DiversitySettings

    @property
    def needs(self) -> frozenset[Need]:
        """Embeddings; and metadata where sources are strata or log-probability is the quality."""
        return frozenset({"embeddings", "metadata"} if self._uses_metadata else {"embeddings"})

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Select a diverse subset."""
        metadata = context.metadata(records) if self._uses_metadata else None
        strata = quality = None
        if metadata is not None:
            strata = np.array(metadata.sources, np.str_) if self.settings.strata == "source" else None
            quality = metadata.mean_logprobs
        if self.settings.quality == "words":
            quality = words_per_text(records.text_list)
        return FilterResult.from_selection(select_diverse(context.embeddings(records), self.settings, strata, quality))

    @property
    def _uses_metadata(self) -> bool:
        by_logprob = self.settings.diversity_weight < 1 and self.settings.quality == "log_probability"
        return self.settings.strata == "source" or by_logprob
