"""Run filters over records: the settings of `[curate]`, the registry of filters, and the loop over them.

Filters run in the order of `curate.filters`. A record that one filter drops is not seen by the next. Each filter
decides about every record that it sees, so each has a row in the decisions for every filter that it reached.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curation.decisions import FilterResult, InvalidFilterResultError, RecordSet, decision_table
from curation.dedup.minhash import MinHashSettings
from curation.dedup.semantic import SemanticSettings
from curation.embeddings.base import EmbeddingSettings
from curation.embeddings.encoders import resolve_embedding
from curation.filters.base import NO_SETTINGS, Filter, FilterContext
from curation.filters.checks import ChecksFilter, ChecksSettings
from curation.filters.decontamination import DecontaminationFilter, DecontaminationSettings, OverlapSettings
from curation.filters.duplicates import ExactFilter, HumanOverlapFilter, MinHashFilter, SemanticFilter
from curation.filters.importance import (
    ImportanceFilter,
    ImportanceSettings,
    PerplexityFilter,
    PerplexityFilterSettings,
)
from curation.filters.language import LanguageFilter, LanguageSettings
from curation.filters.pii import PiiFilter, PiiSettings
from curation.filters.quality import EmptyFilter, QualityFilter, QualitySettings
from curation.filters.selection import BestOfFilter, DiversityFilter
from curation.filters.user_filter import load_user_filter
from curation.selection.best_of import BestOfSettings
from curation.selection.diversity import DiversitySettings
from curation.user_code import FILTERS, REWARDS, UserCode
from heirloom.errors import HeirloomError, did_you_mean
from heirloom.settings import Settings

_BUILTIN_CLASSES = (
    EmptyFilter,
    ChecksFilter,
    BestOfFilter,
    ExactFilter,
    QualityFilter,
    LanguageFilter,
    PiiFilter,
    DecontaminationFilter,
    HumanOverlapFilter,
    MinHashFilter,
    PerplexityFilter,
    ImportanceFilter,
    SemanticFilter,
    DiversityFilter,
)
BUILTIN_FILTERS = {filter_class.name: filter_class for filter_class in _BUILTIN_CLASSES}
"""The filters that come with Heirloom, by name: those that look at one text first, those that compare texts last."""
_LAST_RULE = "pii"
"""The filter of single texts that runs last; filters of a user follow it by default."""


class CurateSettings(Settings):
    """`[curate]`: the filters that a candidate has to pass, and their settings."""

    filters: tuple[str, ...] = Field(
        ("empty", "exact", "decontamination", "human_overlap", "minhash", "semantic", "diversity"),
        description="filters to run, in this order; an empty list keeps every candidate; also checks, best_of, "
        "quality, language, pii, perplexity, importance_resampling, and your own as `package.module:name` or "
        "`file.py:name`",
    )
    settings: dict[str, dict[str, object]] = Field(
        {}, description="settings of your own filters, one table per filter, under its name (docs/extending.md)"
    )
    encoder: str = Field(
        "minilm",
        description="embedding model: minilm, hashing, numbers (points), or the name of a sentence-transformers model",
    )
    embedding: EmbeddingSettings = EmbeddingSettings()
    checks: ChecksSettings = ChecksSettings()
    best_of: BestOfSettings = BestOfSettings()
    quality: QualitySettings = QualitySettings()
    language: LanguageSettings = LanguageSettings()
    pii: PiiSettings = PiiSettings()
    decontamination: DecontaminationSettings = DecontaminationSettings()
    minhash: MinHashSettings = MinHashSettings()
    perplexity: PerplexityFilterSettings = PerplexityFilterSettings()
    importance_resampling: ImportanceSettings = ImportanceSettings()
    semantic: SemanticSettings = SemanticSettings()
    diversity: DiversitySettings = DiversitySettings()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        """Refuse unknown names. The user's code is not imported: `build_filters` checks what only it can tell."""
        for reference in self._user_filters:
            FILTERS.resolve(reference, BUILTIN_FILTERS)
        for name in self.settings:
            if name in BUILTIN_FILTERS:
                raise HeirloomError(f"curate.settings.{name}: settings of a built-in filter belong to curate.{name}")
        if not self._user_filters:
            self._check_settings_of([])
        return self

    @property
    def _user_filters(self) -> list[str]:
        return [name for name in self.filters if name not in BUILTIN_FILTERS]

    def _check_settings_of(self, names: Sequence[str]) -> None:
        for name in self.settings:
            if name not in names:
                raise HeirloomError(
                    f"curate.settings.{name}: no filter of that name is in curate.filters.{did_you_mean(name, names)} "
                    f"Your own filters there: {', '.join(names) or 'none'}"
                )

    def build_filters(self) -> list[Filter]:
        """Import the user's filters, and return all filters in their order, each with its settings.

        Raises:
            HeirloomError: a filter of the user cannot be loaded or does not accept its settings, two filters have one
                name, or settings belong to no filter.
        """
        filters = [self._build_filter(name) for name in self.filters]
        names = [each.name for each in filters if each.name not in BUILTIN_FILTERS]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise HeirloomError(f"curate.filters: two filters have the name {repeated[0]}; rename one of them")
        self._check_settings_of(names)
        return filters

    @property
    def overlap(self) -> OverlapSettings:
        """What counts as overlapping a protected record, for candidates and for human training records."""
        return OverlapSettings(
            jaccard_threshold=self.decontamination.jaccard_threshold,
            ngram_length_jaccard=self.minhash.shingle_words,
            ngram_length=self.decontamination.ngram_length,
        )

    def resolve_auto(self, before: Mapping[str, Any] | None = None, *, import_user_code: bool = True) -> Self:
        """Replace every `auto`: by the stored settings `before`, or else by what this machine supports.

        Settings of embeddings are replaced only where a filter needs embeddings.

        Args:
            before: the resolved settings of an existing run.
            import_user_code: whether to import the user's filters to read their needs. Without it, their embeddings
                are resolved if those of `before` are.

        Raises:
            HeirloomError: a package that the settings require is not installed.
        """
        stored = (before or {}).get("embedding")
        if import_user_code:
            filters = self.build_filters()
        else:
            filters = [self._build_filter(name) for name in self.filters if name in BUILTIN_FILTERS]
        needs_embeddings = any("embeddings" in each.needs for each in filters)
        if not import_user_code and self._user_filters and stored:
            needs_embeddings |= stored.get("backend", "auto") != "auto"
        if not needs_embeddings:
            return self
        return self.model_copy(update={"embedding": resolve_embedding(self.encoder, self.embedding, stored)})

    def user_code(self) -> list[UserCode]:
        """The user's filters and reward that a run imports. Nothing is imported here."""
        code = [UserCode(FILTERS, reference) for reference in self._user_filters]
        if "best_of" in self.filters and self.best_of.is_user_reward:
            code.append(UserCode(REWARDS, self.best_of.objective))
        return code

    def user_code_hashes(self) -> dict[str, str]:
        """Source digests of the user's filters and reward, by their references, for fingerprints."""
        return {code.reference: code.source_hash() for code in self.user_code()}

    def _build_filter(self, name: str) -> Filter:
        filter_class = BUILTIN_FILTERS.get(name)
        if filter_class is None:
            return load_user_filter(name, self.settings, BUILTIN_FILTERS)
        return filter_class(self._settings_of(name))

    def _settings_of(self, name: str) -> Any:  # noqa: ANN401  (the settings model of that filter)
        if name == HumanOverlapFilter.name:
            return self.minhash.model_copy(update={"threshold": self.decontamination.jaccard_threshold})
        if name == DecontaminationFilter.name:
            return self.overlap
        return getattr(self, name, NO_SETTINGS)


def run_filters(filters: Iterable[Filter], records: RecordSet, context: FilterContext) -> Iterator[pa.Table]:
    """Run filters one after the other; yields the decisions of each before the next one starts.

    Args:
        filters: in their order.
        records: the records to filter.
        context: what filters can use besides the records.

    Yields:
        One table per filter (see `decision_table`), with one row per record that reached the filter, in order.

    Raises:
        HeirloomError: a filter returned something else than one decision per record.
    """
    for each in filters:
        result = _apply(each, records, context)
        yield decision_table(each.name, records, result)
        records = records.take(np.flatnonzero(result.kept))


def order_filters(names: Sequence[str]) -> tuple[str, ...]:
    """The filters in the order of the registry, each once; the user's own follow the rules about single texts."""
    order = list(BUILTIN_FILTERS)
    own = [name for name in dict.fromkeys(names) if name not in BUILTIN_FILTERS]
    cut = order.index(_LAST_RULE) + 1
    before, after = ([name for name in part if name in names] for part in (order[:cut], order[cut:]))
    return (*before, *own, *after)


def _apply(each: Filter, records: RecordSet, context: FilterContext) -> FilterResult:
    try:
        result: object = each.apply(records, context)
    except InvalidFilterResultError as error:
        raise HeirloomError(f"Filter {each.name} returned an invalid result: {error}") from error
    if not isinstance(result, FilterResult):
        raise HeirloomError(f"Filter {each.name} returned a {type(result).__name__}; return a FilterResult")
    if len(result) != len(records):
        raise HeirloomError(
            f"Filter {each.name} returned {len(result)} rows for {len(records)} records; return one row per record"
        )
    return result
