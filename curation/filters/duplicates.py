"""Drop records that duplicate another: exactly, nearly (MinHash), semantically, or that nearly copy a human record.

`exact` and `minhash` compare records with each other and with the survivors of earlier generations, by their texts or
by an index of their sketches. `human_overlap` compares them with the human training records alone.
"""

from dataclasses import dataclass
from typing import ClassVar

from curation.decisions import DuplicateMatches, FilterResult, RecordRefs, RecordSet
from curation.dedup.exact import exact_keys, find_exact_duplicates
from curation.dedup.minhash import MinHashSettings, find_near_duplicates, find_near_duplicates_indexed
from curation.dedup.reference import ReferenceIndex
from curation.dedup.semantic import SemanticSettings, find_semantic_duplicates
from curation.filters.base import NO_SETTINGS, FilterContext, Need, NoSettings


@dataclass(frozen=True)
class ExactFilter:
    """Drops a text that equals an earlier one once case, white space and Unicode form are normalized."""

    name: ClassVar[str] = "exact"
    needs: ClassVar[frozenset[Need]] = frozenset({"survivor_index"})
    settings: NoSettings = NO_SETTINGS

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Find the first record or survivor with the same normalized text."""
        reference = context.survivors
        if context.survivor_index is not None:
            reference = context.survivor_index.exact_matches(exact_keys(records.text_list))
        matches = find_exact_duplicates(records.text_list, reference.text_list)
        return FilterResult.from_duplicates(matches, records, reference, "exact duplicate")


@dataclass(frozen=True)
class MinHashFilter:
    """Drops a text whose Jaccard similarity to an earlier one is at or above the threshold."""

    name: ClassVar[str] = "minhash"
    needs: ClassVar[frozenset[Need]] = frozenset({"survivor_index"})
    settings: MinHashSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Compare the records with each other and with the survivors."""
        reference, matches = _find_near_duplicates(
            records, context.survivor_index or context.survivors, self.settings, among_texts=True
        )
        return FilterResult.from_duplicates(matches, records, reference, "near-duplicate")


@dataclass(frozen=True)
class HumanOverlapFilter:
    """Drops a text whose Jaccard similarity to a human training record is at or above the threshold."""

    name: ClassVar[str] = "human_overlap"
    needs: ClassVar[frozenset[Need]] = frozenset({"human_index"})
    settings: MinHashSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Compare the records with the human training records."""
        reference, matches = _find_near_duplicates(
            records, context.human_index or context.human_train, self.settings, among_texts=False
        )
        return FilterResult.from_duplicates(matches, records, reference, "near-duplicate of a human record")


@dataclass(frozen=True)
class SemanticFilter:
    """Drops a text whose embedding is close to that of an earlier one, or of a reference text."""

    name: ClassVar[str] = "semantic"
    needs: ClassVar[frozenset[Need]] = frozenset({"embeddings", "references"})
    settings: SemanticSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Compare the embeddings of the records and the references."""
        vectors = context.embeddings(records)
        reference_vectors = context.embeddings(context.references) if len(context.references) else vectors[:0]
        matches = find_semantic_duplicates(vectors, reference_vectors, self.settings)
        return FilterResult.from_duplicates(matches, records, context.references, "semantic duplicate")


def _find_near_duplicates(
    records: RecordSet, reference: RecordSet | ReferenceIndex, settings: MinHashSettings, *, among_texts: bool
) -> tuple[RecordRefs, DuplicateMatches]:
    """Return the reference records that `duplicate_of` counts, and the matches."""
    if isinstance(reference, RecordSet):
        return reference, find_near_duplicates(records.texts, reference.texts, settings, among_texts=among_texts)
    return find_near_duplicates_indexed(records.texts, reference.candidates, settings, among_texts=among_texts)
