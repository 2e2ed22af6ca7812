"""Which candidates say what is said already: word for word, or nearly; by the texts that are known, or by their sketches."""

from curation.decisions import Decision, Known, by_duplicates
from curation.dedup.exact import exact_keys, find_exact_duplicates
from curation.dedup.minhash import MinHashSettings, find_near_duplicates, find_near_sketched
from curation.dedup.reference import Past


def find_repeats(stage: str, alive: Known, known: Known | Past, likeness: MinHashSettings) -> list[Decision]:
    """One decision a text of the sieve `exact`, `minhash` or `copying`; the last holds texts against what is known alone."""
    if stage == "exact":
        same = known if isinstance(known, Known) else known.same(exact_keys(alive.texts))
        return by_duplicates(stage, alive, same, find_exact_duplicates(alive.texts, same.texts))
    among = stage == "minhash"
    if isinstance(known, Known):
        answer = find_near_duplicates(alive.texts, known.texts, likeness, among_texts=among)
        return by_duplicates(stage, alive, known, answer)
    return by_duplicates(stage, alive, *find_near_sketched(alive.texts, known.near, likeness, among_texts=among))
