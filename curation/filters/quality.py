"""Heuristic quality rules for web corpora: each is a statistic of a text and the range that it must lie in.

Two presets: `documents` has the published values for web pages, `short` looser ones that also fit a paragraph or a
completion. Rules drop whole texts and edit none, so the rules of C4 that remove single lines are not here. Stop words
are English; switch that rule off for other languages.

Gopher: Rae et al. 2021, arXiv:2112.11446, appendix A.1.1 and table A1. C4: Raffel et al. 2020,
arXiv:1910.10683, section 2.2. FineWeb: Penedo et al. 2024, arXiv:2406.17557, section 3.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import NO_SETTINGS, FilterContext, Need, NoSettings
from curation.filters.text_stats import Numbers, TextStats
from curation.text import words
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

Range = tuple[float, float]

_INF = math.inf
_BLOCK_CHARACTERS = 1_000_000
"""Texts are measured in blocks of this size, so that memory does not grow with the corpus."""


class Bounds(Settings):
    """The range that a statistic must lie in. A bound that is left out does not apply; `false` is no bound at all."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_false(cls, value: object) -> object:
        if value is False:
            return {}
        if not isinstance(value, dict | Bounds):
            raise HeirloomError("write {min = ..., max = ...}, or false to switch the rule off")
        return value

    @model_validator(mode="after")
    def _check_order(self) -> "Bounds":
        low, high = self.range
        if not low <= high:
            raise HeirloomError(f"min must not exceed max, found {{min = {low:g}, max = {high:g}}}")
        return self

    @property
    def range(self) -> Range:
        """Both bounds, infinite where they are left out."""
        return -_INF if self.min is None else self.min, _INF if self.max is None else self.max


Limit = Bounds | None
"""The bounds of a rule; None takes those of the preset."""


@dataclass(frozen=True)
class QualityRule:
    """One statistic of a text, and its range in each preset; None where the preset does not use it."""

    measure: Callable[[TextStats], Numbers]
    documents: Range | None
    short: Range | None


_RULES: dict[str, QualityRule] = {
    "words": QualityRule(TextStats.words, (50, 100_000), (3, _INF)),
    "mean_word_length": QualityRule(TextStats.mean_word_length, (3, 10), (2, 14)),
    "alphabetic_word_fraction": QualityRule(TextStats.alphabetic_word_fraction, (0.8, 1), (0.5, 1)),
    "stop_words": QualityRule(TextStats.stop_words, (2, _INF), None),
    "hash_to_word_ratio": QualityRule(TextStats.hash_to_word_ratio, (0, 0.1), (0, 0.2)),
    "ellipsis_fraction": QualityRule(TextStats.ellipsis_fraction, (0, 0.1), (0, 0.2)),
    "bullet_line_fraction": QualityRule(TextStats.bullet_line_fraction, (0, 0.9), None),
    "ellipsis_line_fraction": QualityRule(TextStats.ellipsis_line_fraction, (0, 0.3), None),
    "sentences": QualityRule(TextStats.sentences, (3, _INF), None),
    "lorem_ipsum_count": QualityRule(TextStats.lorem_ipsum_count, (0, 0), (0, 0)),
    "curly_brace_count": QualityRule(TextStats.curly_brace_count, None, None),
    "terminal_line_fraction": QualityRule(TextStats.terminal_line_fraction, (0.12, 1), None),
    "short_line_fraction": QualityRule(TextStats.short_line_fraction, (0, 0.67), None),
    "newline_fraction": QualityRule(TextStats.newline_fraction, (0, 0.3), None),
    "duplicate_line_fraction": QualityRule(TextStats.duplicate_line_fraction, (0, 0.3), (0, 0.5)),
    "duplicate_line_character_fraction": QualityRule(TextStats.duplicate_line_character_fraction, (0, 0.2), (0, 0.5)),
    "duplicate_paragraph_fraction": QualityRule(TextStats.duplicate_paragraph_fraction, (0, 0.3), (0, 0.5)),
    "duplicate_paragraph_character_fraction": QualityRule(
        TextStats.duplicate_paragraph_character_fraction, (0, 0.2), (0, 0.5)
    ),
} | {
    name.format(length): QualityRule(partial(measure, length=length), (0, documents), (0, short))
    for name, measure, published in (
        ("top_{}_gram_fraction", TextStats.top_fraction, ((2, 0.2, 0.5), (3, 0.18, 0.5), (4, 0.16, 0.5))),
        (
            "repeated_{}_gram_fraction",
            TextStats.repeated_fraction,
            ((5, 0.15, 0.4), (6, 0.14, 0.4), (7, 0.13, 0.4), (8, 0.12, 0.4), (9, 0.11, 0.4), (10, 0.1, 0.4)),
        ),
    )
    for length, documents, short in published
}


def _limit(meaning: str) -> Limit:
    field: Limit = Field(
        None, description=f"{meaning}; `{{min = ..., max = ...}}`, or false for off; default: the preset"
    )
    return field


class QualitySettings(Settings):
    """`[curate.quality]`: one table per rule. A text is dropped by the first rule that it fails."""

    preset: Literal["documents", "short"] = Field(
        "short", description="default bounds of all rules: documents (web pages, as published) or short (looser)"
    )
    words: Limit = _limit("words in a text (Gopher 50 to 100,000)")
    mean_word_length: Limit = _limit("mean characters per word (Gopher 3 to 10)")
    alphabetic_word_fraction: Limit = _limit("fraction of words with a letter (Gopher at least 0.8)")
    stop_words: Limit = _limit(
        "number of the words the, be, to, of, and, that, have, with that occur (Gopher at least 2)"
    )
    hash_to_word_ratio: Limit = _limit("hash signs per word (Gopher at most 0.1)")
    ellipsis_fraction: Limit = _limit("ellipses per word (Gopher at most 0.1)")
    bullet_line_fraction: Limit = _limit("fraction of lines that begin with a bullet (Gopher at most 0.9)")
    ellipsis_line_fraction: Limit = _limit("fraction of lines that end in an ellipsis (Gopher at most 0.3)")
    sentences: Limit = _limit("ends of sentences (C4 at least 3)")
    lorem_ipsum_count: Limit = _limit("occurrences of lorem ipsum (C4 none)")
    curly_brace_count: Limit = _limit("opening curly brackets (C4 none; in no preset, since it drops all code)")
    terminal_line_fraction: Limit = _limit("fraction of lines that end in punctuation (FineWeb more than 0.12)")
    short_line_fraction: Limit = _limit("fraction of lines of at most 30 characters (FineWeb less than 0.67)")
    newline_fraction: Limit = _limit("line breaks per word (FineWeb at most 0.3)")
    duplicate_line_fraction: Limit = _limit("fraction of lines that repeat an earlier one (Gopher at most 0.3)")
    duplicate_line_character_fraction: Limit = _limit("fraction of characters in them (Gopher at most 0.2)")
    duplicate_paragraph_fraction: Limit = _limit(
        "fraction of paragraphs that repeat an earlier one (Gopher at most 0.3)"
    )
    duplicate_paragraph_character_fraction: Limit = _limit("fraction of characters in them (Gopher at most 0.2)")
    top_2_gram_fraction: Limit = _limit("fraction of characters in the most frequent 2-gram (Gopher at most 0.2)")
    top_3_gram_fraction: Limit = _limit("fraction of characters in the most frequent 3-gram (Gopher at most 0.18)")
    top_4_gram_fraction: Limit = _limit("fraction of characters in the most frequent 4-gram (Gopher at most 0.16)")
    repeated_5_gram_fraction: Limit = _limit("fraction of characters in repeated 5-grams (Gopher at most 0.15)")
    repeated_6_gram_fraction: Limit = _limit("fraction of characters in repeated 6-grams (Gopher at most 0.14)")
    repeated_7_gram_fraction: Limit = _limit("fraction of characters in repeated 7-grams (Gopher at most 0.13)")
    repeated_8_gram_fraction: Limit = _limit("fraction of characters in repeated 8-grams (Gopher at most 0.12)")
    repeated_9_gram_fraction: Limit = _limit("fraction of characters in repeated 9-grams (Gopher at most 0.11)")
    repeated_10_gram_fraction: Limit = _limit("fraction of characters in repeated 10-grams (Gopher at most 0.1)")

    def limits(self) -> Iterator[tuple[str, Range]]:
        """The rules that are on, in the order in which they are applied, with their ranges."""
        for name, rule in _RULES.items():
            limit: Limit = getattr(self, name)
            preset: Range | None = getattr(rule, self.preset)
            bounds = preset if limit is None else limit.range
            if bounds is not None and bounds != (-_INF, _INF):
                yield name, bounds


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


@dataclass(frozen=True)
class QualityFilter:
    """Drops a text that fails a rule; the score is the statistic that failed."""

    name: ClassVar[str] = "quality"
    needs: ClassVar[frozenset[Need]] = frozenset()
    settings: QualitySettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:  # noqa: ARG002
        """Apply all rules to each text."""
        return quality_filter(records.text_list, self.settings)


def quality_filter(texts: Sequence[str], settings: QualitySettings) -> FilterResult:
    """For each text the first rule that it fails, and the statistic that failed; NaN where the text is kept."""
    reasons: list[pa.Array] = []
    scores: list[Numbers] = [np.zeros(0)]
    for block in _split_blocks(texts):
        stats = _text_stats(block)
        reason, score = np.full(len(block), "", object), np.full(len(block), np.nan)
        for name, (low, high) in settings.limits():
            value = _RULES[name].measure(stats)
            for failed, side, bound in ((value < low, "below", low), (value > high, "above", high)):
                first_failure = failed & (reason == "")
                reason[first_failure], score[first_failure] = f"{name} {side} {bound:g}", value[first_failure]
        reasons.append(pa.array(reason, pa.string()))
        scores.append(score)
    return FilterResult(reason=pa.chunked_array(reasons, pa.string()), score=np.concatenate(scores))


def quality_stats(texts: Sequence[str]) -> pa.Table:
    """Every statistic of every text, one column per rule, to choose bounds from."""
    blocks = []
    for block in _split_blocks(texts):
        stats = _text_stats(block)
        blocks.append(pa.table({name: rule.measure(stats) for name, rule in _RULES.items()}))
    return pa.concat_tables(blocks) if blocks else pa.table({name: pa.array([], pa.float64()) for name in _RULES})


def _text_stats(texts: Sequence[str]) -> TextStats:
    # A lone surrogate cannot be a string of Arrow, and becomes `?`.
    return TextStats(pa.array([text.encode("utf-8", "replace") for text in texts], pa.binary()).cast(pa.string()))


def _split_blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for row, text in enumerate(texts):
        size += len(text)
        if size >= _BLOCK_CHARACTERS:
            yield texts[start : row + 1]
            start, size = row + 1, 0
    if start < len(texts):
        yield texts[start:]
