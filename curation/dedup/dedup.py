"""Which candidates say what is said already: word for word, or nearly; by the texts that are known, or by their sketches."""

from curation.decisions import Decision, RecordSet, decisions_from_duplicates
from curation.dedup.exact import exact_keys, find_exact_duplicates
from curation.dedup.minhash import MinHashSettings, find_near_duplicates, find_near_duplicates_indexed
from curation.dedup.reference import ReferenceIndex


def find_duplicates(
    stage: str, records: RecordSet, known: RecordSet | ReferenceIndex, settings: MinHashSettings
) -> list[Decision]:
    """One decision a text of the sieve `exact`, `minhash` or `copying`; the last holds texts against what is known alone."""
    if stage == "exact":
        same = known if isinstance(known, RecordSet) else known.exact_matches(exact_keys(records.texts))
        return decisions_from_duplicates(stage, records, same, find_exact_duplicates(records.texts, same.texts))
    among = stage == "minhash"
    if isinstance(known, RecordSet):
        answer = find_near_duplicates(records.texts, known.texts, settings, among_texts=among)
        return decisions_from_duplicates(stage, records, known, answer)
    return decisions_from_duplicates(
        stage, records, *find_near_duplicates_indexed(records.texts, known.candidates, settings, among_texts=among)
    )
