"""Count words and n-grams of human and of synthetic text, on samples of equal numbers of words.

N-grams lie within one text. Synthetic counts are kept by groups of texts, so that metrics have jackknife intervals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.metrics.bootstrap import GROUPS
from curation.text import words

Counts = NDArray[np.int64]
TokenizedTexts = Sequence[Sequence[str]]
"""Texts as sequences of words."""


@dataclass(frozen=True)
class NgramCounts:
    """Counts of the same n-grams on both sides."""

    human: Counts
    """Occurrences in the human texts, shape (n-grams,)."""
    synthetic: Counts
    """Occurrences in each group of the synthetic texts, shape (groups, n-grams)."""

    @property
    def total(self) -> Counts:
        """Occurrences in all synthetic texts, shape (n-grams,)."""
        return np.asarray(self.synthetic.sum(0))

    def leave_one_out(self) -> list[Counts]:
        """Return the total counts without each group that has any n-gram."""
        return [self.total - group for group in self.synthetic if group.any()]


def take_words(texts: Iterable[str], count: int) -> list[list[str]]:
    """Return the first `count` words of the texts, by text; texts without words are skipped."""
    taken: list[list[str]] = []
    remaining = count
    if remaining <= 0:
        return taken
    for text in texts:
        text_words = words(text)[:remaining]
        if text_words:
            taken.append(text_words)
            remaining -= len(text_words)
        if remaining <= 0:
            break
    return taken


def count_words(texts: TokenizedTexts) -> int:
    """Return the number of words."""
    return sum(map(len, texts))


def count_ngrams(human: TokenizedTexts, synthetic: TokenizedTexts, length: int) -> NgramCounts:
    """Count every n-gram of `length` words on both sides."""
    word_ids: dict[str, int] = {}
    human_codes, _ = _ngrams(human, length, word_ids)
    synthetic_codes, synthetic_rows = _ngrams(synthetic, length, word_ids)
    distinct, indices = np.unique(np.concatenate([human_codes, synthetic_codes]), return_inverse=True)
    num_human = len(human_codes)
    by_group = np.zeros((GROUPS, len(distinct)), np.int64)
    np.add.at(by_group, (synthetic_rows % GROUPS, indices[num_human:]), 1)
    return NgramCounts(np.bincount(indices[:num_human], minlength=len(distinct)), by_group)


def word_counts(human: TokenizedTexts, *others: TokenizedTexts) -> list[Counts]:
    """Return the occurrences of each human word in the human texts and in each of the others, shape (words,)."""
    word_ids: dict[str, int] = {}
    for text in human:
        for word in text:
            word_ids.setdefault(word, len(word_ids))
    counts = []
    for texts in (human, *others):
        ids = [word_ids[word] for text in texts for word in text if word in word_ids]
        counts.append(np.bincount(np.array(ids, np.int64), minlength=len(word_ids)))
    return counts


def _ngrams(texts: TokenizedTexts, length: int, word_ids: dict[str, int]) -> tuple[Counts, Counts]:
    """Return an integer code of every n-gram, and the row of its text; new words are added to `word_ids`."""
    codes: list[int] = []
    rows: list[int] = []
    for row, text in enumerate(texts):
        ids = [word_ids.setdefault(word, len(word_ids)) for word in text]
        if length == 1:
            text_codes = ids
        else:
            # Hashes of tuples of integers do not depend on PYTHONHASHSEED.
            text_codes = [hash(tuple(ids[start : start + length])) for start in range(len(ids) - length + 1)]
        codes += text_codes
        rows += [row] * len(text_codes)
    return np.array(codes, np.int64), np.array(rows, np.int64)
