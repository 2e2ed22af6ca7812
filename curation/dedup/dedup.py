"""Decide which candidates are exact or near-duplicates of known records or of earlier candidates."""

from curation.decisions import Decision, RecordSet, decisions_from_duplicates
from curation.dedup.exact import exact_keys, find_exact_duplicates
from curation.dedup.minhash import MinHashSettings, find_near_duplicates, find_near_duplicates_indexed
from curation.dedup.reference import ReferenceIndex


def find_duplicates(
    stage: str, records: RecordSet, known: RecordSet | ReferenceIndex, settings: MinHashSettings
) -> list[Decision]:
    """Return one decision for each record.

    Args:
        stage: `exact`, `minhash` or `human_overlap`; the last one compares records with `known` only, not with each other.
        records: the candidates.
        known: earlier records, as texts or as an index of their sketches.
        settings: near-duplicate settings; not used by `exact`.
    """
    if stage == "exact":
        equal = known if isinstance(known, RecordSet) else known.exact_matches(exact_keys(records.texts))
        return decisions_from_duplicates(stage, records, equal, find_exact_duplicates(records.texts, equal.texts))
    among_texts = stage == "minhash"
    if isinstance(known, RecordSet):
        matches = find_near_duplicates(records.texts, known.texts, settings, among_texts=among_texts)
        return decisions_from_duplicates(stage, records, known, matches)
    candidates, matches = find_near_duplicates_indexed(
        records.texts, known.candidates, settings, among_texts=among_texts
    )
    return decisions_from_duplicates(stage, records, candidates, matches)
