"""Statistics of texts over Arrow columns: words, lines, paragraphs, and how they repeat.

Words are separated by white space. In scripts written without spaces they are segmented by ICU, and do not count for
word lengths. Every statistic has one number per text; NaN where it is undefined.
"""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from curation.filters.repetition import NgramRepetition
from curation.text import separate_words

Numbers = NDArray[np.float64]

_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_UNSPACED = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Le}\p{New_Tai_Lue}"
    r"\p{Tai_Tham}\p{Tai_Viet}\p{Javanese}\p{Balinese}\p{Yi}\p{Ahom}\p{Tibetan}]"
)
"""Scripts without spaces between words."""
_WORD_SEPARATORS = rf"{_UNSPACED}|\x{{1361}}"
_SENTENCE_ENDS = "。！？．｡।॥۔؟។៕။།༎።፧։"
"""Ends of sentences that no space needs to follow."""
_SIGNS = ".,;:!?\"'()[]{}<>«»“”‘’…–—"
_SHORT_LINE = 30
"""Maximum number of characters of a short line in FineWeb."""


class TextStats:
    """Statistics of a block of texts, which is split once; each statistic is computed on call, shape (texts,)."""

    def __init__(self, texts: pa.StringArray) -> None:
        self._texts = texts
        self._words = _Pieces(pc.utf8_split_whitespace(_spaced(texts)))
        self._lines = _Pieces(pc.split_pattern(texts, "\n"))

    def words(self) -> Numbers:
        """Number of words."""
        return self._words.per_text(self._words.lengths > 0)

    def mean_word_length(self) -> Numbers:
        """Mean number of characters per word, in scripts that separate words."""
        divided = self._words.matching(r"[\p{L}\p{N}]") & ~self._words.matching(_UNSPACED)
        return _share(self._words.per_text(np.where(divided, self._words.lengths, 0)), self._words.per_text(divided))

    def alphabetic_word_fraction(self) -> Numbers:
        """Fraction of words with a letter; a separate punctuation mark is not a word here."""
        is_word = (self._words.lengths > 0) & ~self._words.matching(r"^\p{P}$")
        return _share(self._words.per_text(self._words.matching(r"\p{L}")), self._words.per_text(is_word))

    def stop_words(self) -> Numbers:
        """Number of eight very common English words that occur."""
        plain = pc.utf8_lower(pc.utf8_trim(self._words.distinct, _SIGNS))
        found = pc.index_in(plain, pa.array(_STOP_WORDS)).to_numpy(zero_copy_only=False)[self._words.codes]
        which = ~np.isnan(found.astype(np.float64))
        seen = np.unique(self._words.text[which] * len(_STOP_WORDS) + found[which].astype(np.int64))
        return np.bincount(seen // len(_STOP_WORDS), minlength=len(self._texts)).astype(np.float64)

    def hash_to_word_ratio(self) -> Numbers:
        """Hash signs per word."""
        return _share(_counted(self._texts, "#"), self.words())

    def ellipsis_fraction(self) -> Numbers:
        """Ellipses per word."""
        return _share(_counted(self._texts, "...") + _counted(self._texts, "…"), self.words())

    def curly_brace_count(self) -> Numbers:
        """Number of opening curly brackets."""
        return _counted(self._texts, "{")

    def lorem_ipsum_count(self) -> Numbers:
        """Occurrences of lorem ipsum."""
        return _numbers(pc.count_substring(self._texts, "lorem ipsum", ignore_case=True))

    def sentences(self) -> Numbers:
        """Number of ends of sentences."""
        return _numbers(pc.count_substring_regex(self._texts, rf"[.!?]+[\"'”’)\]]*(?:\s|$)|[{_SENTENCE_ENDS}]"))

    def bullet_line_fraction(self) -> Numbers:
        """Fraction of lines that begin with a bullet."""
        return self._of_lines(self._lines.matching(r"^\s*(?:[•‣◦▪●]|[-*]\s)"))

    def ellipsis_line_fraction(self) -> Numbers:
        """Fraction of lines that end in an ellipsis."""
        return self._of_lines(self._lines.matching(r"(?:\.\.\.|…)\s*$"))

    def terminal_line_fraction(self) -> Numbers:
        """Fraction of lines that end in a terminal punctuation mark."""
        return self._of_lines(self._lines.matching(rf"[.!?\"'”’»」』{_SENTENCE_ENDS}]\s*$"))

    def short_line_fraction(self) -> Numbers:
        """Fraction of lines of at most 30 characters."""
        return self._of_lines(self._lines.filled & (self._lines.lengths <= _SHORT_LINE))

    def newline_fraction(self) -> Numbers:
        """Line breaks per word."""
        return _share(_counted(self._texts, "\n"), self.words())

    def duplicate_line_fraction(self) -> Numbers:
        """Fraction of lines that repeat an earlier one of the text."""
        return self._lines.repeated(np.ones(len(self._lines.text)))

    def duplicate_line_character_fraction(self) -> Numbers:
        """Fraction of characters in such lines."""
        return self._lines.repeated(self._lines.lengths)

    def duplicate_paragraph_fraction(self) -> Numbers:
        """Fraction of paragraphs that repeat an earlier one of the text."""
        return self._paragraphs.repeated(np.ones(len(self._paragraphs.text)))

    def duplicate_paragraph_character_fraction(self) -> Numbers:
        """Fraction of characters in such paragraphs."""
        return self._paragraphs.repeated(self._paragraphs.lengths)

    def top_fraction(self, length: int) -> Numbers:
        """Fraction of characters in the repeated n-gram of `length` words that covers most."""
        return self._runs.top_fraction(length)

    def repeated_fraction(self, length: int) -> Numbers:
        """Fraction of characters in n-grams of `length` words that occurred before."""
        return self._runs.repeated_fraction(length)

    @cached_property
    def _paragraphs(self) -> "_Pieces":
        return _Pieces(pc.split_pattern_regex(self._texts, r"\n\s*\n"))

    @cached_property
    def _runs(self) -> NgramRepetition:
        is_word = self._words.lengths > 0
        return NgramRepetition(
            self._words.codes[is_word], self._words.text[is_word], self._words.lengths[is_word], len(self._texts)
        )

    def _of_lines(self, which: NDArray[np.bool_]) -> Numbers:
        return _share(self._lines.per_text(which & self._lines.filled), self._lines.per_text(self._lines.filled))


class _Pieces:
    """The pieces of all texts, one after the other: the text of each, and a dictionary of distinct pieces."""

    def __init__(self, lists: pa.ListArray) -> None:
        encoded = lists.flatten().dictionary_encode()
        sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        self._texts = len(lists)
        self.distinct: pa.StringArray = encoded.dictionary
        self.codes = encoded.indices.to_numpy().astype(np.int64)
        self.text = np.repeat(np.arange(len(lists)), sizes)
        self.lengths = _numbers(pc.utf8_length(pc.utf8_trim_whitespace(self.distinct)))[self.codes]

    @cached_property
    def filled(self) -> NDArray[np.bool_]:
        """Which pieces have more than white space."""
        return self.lengths > 0

    def matching(self, pattern: str) -> NDArray[np.bool_]:
        found = pc.match_substring_regex(self.distinct, pattern).to_numpy(zero_copy_only=False).astype(bool)
        return found[self.codes]

    def per_text(self, values: NDArray[np.generic]) -> Numbers:
        return np.bincount(self.text, weights=values, minlength=self._texts).astype(np.float64)

    def repeated(self, weights: Numbers) -> Numbers:
        """Fraction of the weight on pieces that occurred before in the same text."""
        pairs = pa.array(self.text * max(1, len(self.distinct)) + self.codes).dictionary_encode()
        order = pairs.indices.to_numpy()
        again = order <= np.concatenate([[-1], np.maximum.accumulate(order)[:-1]]) if len(order) else order > 0
        filled = np.where(self.filled, weights, 0)
        return _share(self.per_text(np.where(again, filled, 0)), self.per_text(filled))


def _spaced(texts: pa.StringArray) -> pa.StringArray:
    unspaced = pc.match_substring_regex(texts, _WORD_SEPARATORS)
    if pc.any(unspaced).as_py():
        separated = [separate_words(text) for text in texts.filter(unspaced).to_pylist()]
        texts = pc.replace_with_mask(texts, unspaced, pa.array(separated, texts.type))
    return pc.utf8_trim_whitespace(texts)


def _counted(texts: pa.StringArray, pattern: str) -> Numbers:
    return _numbers(pc.count_substring(texts, pattern))


def _numbers(column: pa.Array) -> Numbers:
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


def _share(some: Numbers, whole: Numbers) -> Numbers:
    return np.divide(some, whole, out=np.full(len(whole), np.nan), where=whole > 0)
