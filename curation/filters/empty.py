"""Drop texts without a word."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import NO_SETTINGS, FilterContext, Need, NoSettings
from curation.text import words


@dataclass(frozen=True)
class EmptyFilter:
    """Drops a text that has no word; the score is its number of words."""

    name: ClassVar[str] = "empty"
    needs: ClassVar[frozenset[Need]] = frozenset()
    settings: NoSettings = NO_SETTINGS

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:  # noqa: ARG002
        """Count the words of each text."""
        counts = np.array([len(words(text)) for text in records.text_list], np.float64)
        return FilterResult.drop_where(counts == 0, "has no word", counts)
