"""Exact duplicates: the same text once normalised."""

from collections.abc import Sequence

from curation.duplicates import Duplicates
from curation.text import normalise


def find_exact_duplicates(texts: Sequence[str], reference: Sequence[str] = ()) -> Duplicates:
    """For each text, the earliest text of `reference` or of `texts` that says exactly the same."""
    first: dict[str, int] = {}
    for row, text in enumerate(reference):
        first.setdefault(normalise(text), row)
    answer = Duplicates.none(len(texts))
    for row, text in enumerate(texts):
        keeper = first.setdefault(normalise(text), len(reference) + row)
        if keeper != len(reference) + row:
            answer.keeper[row] = keeper
            answer.similarity[row] = 1.0
    return answer
