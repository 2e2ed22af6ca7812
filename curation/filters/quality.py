"""Rules of thumb that web corpora are cleaned by, each a measure and the range it must lie in.

Two presets: `documents` has the published values for web pages, `short` looser ones that also fit a
paragraph or an answer. Rules look at whole texts and change none, so the rules of C4 that take out single
lines are not here. Stop words are English; switch that rule off for other languages.

Gopher: Rae et al. 2021, arXiv:2112.11446, appendix A.1.1 and table A1. C4: Raffel et al. 2020,
arXiv:1910.10683, section 2.2. FineWeb: Penedo et al. 2024, arXiv:2406.17557, section 3.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.decisions import FilterResult
from curation.filters.text_stats import Numbers, TextStats
from heirloom.errors import HeirloomError

Range = tuple[float, float]
Limit = Range | Literal[False] | None

_INF = math.inf
_BLOCK_CHARACTERS = 1_000_000
"""Texts are looked at in blocks of this size, so that memory does not grow with the corpus."""


@dataclass(frozen=True)
class QualityRule:
    """One statistic of a text, and the range that it must lie in for documents and for short texts."""

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
    return Field(None, description=f"{meaning}: [least, most], false for off, otherwise as the preset says")  # type: ignore[no-any-return]


class QualitySettings(BaseModel):
    """`[curate.quality]`: the ranges that a text must lie in; a text goes by the first rule it fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["documents", "short"] = Field(
        "short", description="where the limits come from: documents (web pages, as published) or short (looser)"
    )
    words: Limit = _limit("words of a text (Gopher 50 to 100,000)")
    mean_word_length: Limit = _limit("characters of a word on average (Gopher 3 to 10)")
    alphabetic_word_fraction: Limit = _limit("share of the words with a letter (Gopher at least 0.8)")
    stop_words: Limit = _limit("how many of the, be, to, of, and, that, have, with occur (Gopher at least 2)")
    hash_to_word_ratio: Limit = _limit("hash signs a word (Gopher at most 0.1)")
    ellipsis_fraction: Limit = _limit("ellipses a word (Gopher at most 0.1)")
    bullet_line_fraction: Limit = _limit("share of the lines that begin with a bullet (Gopher at most 0.9)")
    ellipsis_line_fraction: Limit = _limit("share of the lines that end in an ellipsis (Gopher at most 0.3)")
    sentences: Limit = _limit("ends of sentences (C4 at least 3)")
    lorem_ipsum_count: Limit = _limit("times it says lorem ipsum (C4 none)")
    curly_brace_count: Limit = _limit("opening curly brackets (C4 none; in no preset, for it takes all code)")
    terminal_line_fraction: Limit = _limit("share of the lines that end in punctuation (FineWeb more than 0.12)")
    short_line_fraction: Limit = _limit("share of the lines of at most 30 characters (FineWeb less than 0.67)")
    newline_fraction: Limit = _limit("line breaks a word (FineWeb at most 0.3)")
    duplicate_line_fraction: Limit = _limit("share of the lines said before (Gopher at most 0.3)")
    duplicate_line_character_fraction: Limit = _limit("share of the characters in them (Gopher at most 0.2)")
    duplicate_paragraph_fraction: Limit = _limit("share of the paragraphs said before (Gopher at most 0.3)")
    duplicate_paragraph_character_fraction: Limit = _limit("share of the characters in them (Gopher at most 0.2)")
    top_2_gram_fraction: Limit = _limit("share of the characters in the heaviest two words (Gopher at most 0.2)")
    top_3_gram_fraction: Limit = _limit("the same of three words (Gopher at most 0.18)")
    top_4_gram_fraction: Limit = _limit("the same of four words (Gopher at most 0.16)")
    repeated_5_gram_fraction: Limit = _limit("share of the characters in five words said before (Gopher at most 0.15)")
    repeated_6_gram_fraction: Limit = _limit("the same of six words (Gopher at most 0.14)")
    repeated_7_gram_fraction: Limit = _limit("the same of seven words (Gopher at most 0.13)")
    repeated_8_gram_fraction: Limit = _limit("the same of eight words (Gopher at most 0.12)")
    repeated_9_gram_fraction: Limit = _limit("the same of nine words (Gopher at most 0.11)")
    repeated_10_gram_fraction: Limit = _limit("the same of ten words (Gopher at most 0.1)")

    @model_validator(mode="after")
    def _ordered(self) -> "QualitySettings":
        for name, (least, most) in self.limits():
            if not least <= most:
                raise HeirloomError(f"{name} must be [least, most], found [{least:g}, {most:g}]")
        return self

    def limits(self) -> Iterator[tuple[str, Range]]:
        """The rules that are on, in the order in which they are looked at, with their ranges."""
        for name, rule in _RULES.items():
            said: Limit = getattr(self, name)
            limit = getattr(rule, self.preset) if said is None else said
            if limit:
                yield name, limit


def quality_filter(texts: Sequence[str], settings: QualitySettings) -> FilterResult:
    """For each text the first rule it fails and the number it failed by; the number is NaN where it stays."""
    reasons: list[str] = []
    evidence: list[Numbers] = [np.zeros(0)]
    for block in _blocks(texts):
        shape = TextStats(pa.array([text.encode("utf-8", "replace") for text in block], pa.binary()).cast(pa.string()))
        found, numbers = np.full(len(block), "", object), np.full(len(block), np.nan)
        for name, (least, most) in settings.limits():
            value = _RULES[name].measure(shape)
            for out, word, limit in ((value < least, "below", least), (value > most, "above", most)):
                first = out & (found == "")
                found[first], numbers[first] = f"{name} {word} {limit:g}", value[first]
        reasons += found.tolist()
        evidence.append(numbers)
    return FilterResult(reasons, np.concatenate(evidence))


def quality_stats(texts: Sequence[str]) -> pa.Table:
    """Every measure of every text, one column a rule: to see where limits of one's own would lie."""
    blocks = []
    for block in _blocks(texts):
        shape = TextStats(pa.array([text.encode("utf-8", "replace") for text in block], pa.binary()).cast(pa.string()))
        blocks.append(pa.table({name: rule.measure(shape) for name, rule in _RULES.items()}))
    return pa.concat_tables(blocks) if blocks else pa.table({name: pa.array([], pa.float64()) for name in _RULES})


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    start = size = 0
    for place, text in enumerate(texts):
        size += len(text)
        if size >= _BLOCK_CHARACTERS:
            yield texts[start : place + 1]
            start, size = place + 1, 0
    if start < len(texts):
        yield texts[start:]
