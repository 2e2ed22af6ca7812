"""Measure the diversity of a sample of text by itself: it falls late in a collapse. Samples should have equal sizes."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curation.metrics.ngram_counts import Counts, TokenizedTexts
from curation.text import words

_DEFLATE_LEVEL = 6
_FITTED_RANKS = 1000
_MTLD_THRESHOLD = 0.72


def entropy(counts: Counts) -> float:
    """Return the Shannon entropy of the shares in nats, -sum p ln p; 0 for no tokens."""
    from scipy.stats import entropy as entropy_of  # slow to import, and reading a recipe imports this module

    return float(entropy_of(counts)) if counts.sum() else 0.0


def distinct_n(counts: Counts) -> float:
    """Return types over tokens: the type-token ratio for words, distinct-n for n-grams; 0 for no tokens.

    Li et al. 2016, "A diversity-promoting objective function", arXiv:1510.03055.
    """
    return float((counts > 0).sum() / max(1, counts.sum()))


def zipf_exponent(counts: Counts) -> float:
    """Return the Zipf exponent: the negative slope of log count on log rank over the first 1,000 ranks.

    Weighted least squares with weight 1 / rank, so that the many types that occur once do not dominate. 0 for fewer
    than two types.
    """
    ranked = np.sort(counts[counts > 0])[::-1][:_FITTED_RANKS]
    if len(ranked) < 2:
        return 0.0
    ranks = np.arange(1, len(ranked) + 1)
    return float(-np.polyfit(np.log(ranks), np.log(ranked), 1, w=1 / np.sqrt(ranks))[0])


def compression_ratio(texts: TokenizedTexts) -> float:
    """Return UTF-8 bytes over bytes after DEFLATE, words joined by spaces; higher is more repetitive. 0 for no text."""
    raw = "\n".join(map(" ".join, texts)).encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, _DEFLATE_LEVEL)) if raw else 0.0


def lexical_diversity(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the MTLD of each text, shape (texts,): mean length of runs with a type-token ratio above 0.72.

    Mean of a forward and a backward pass; the last, incomplete run counts as (1 - TTR) / (1 - 0.72). 0 for a text
    without words. McCarthy & Jarvis 2010, "MTLD, vocd-D, and HD-D".
    """
    scores = []
    for text in texts:
        text_words = words(text)
        if text_words:
            scores.append((_mean_run_length(text_words) + _mean_run_length(text_words[::-1])) / 2)
        else:
            scores.append(0.0)
    return np.array(scores, np.float64)


def _mean_run_length(text_words: Sequence[str]) -> float:
    runs, types, length = 0.0, set[str](), 0
    for word in text_words:
        types.add(word)
        length += 1
        if len(types) / length <= _MTLD_THRESHOLD:
            runs, types, length = runs + 1, set(), 0
    if length:
        runs += (1 - len(types) / length) / (1 - _MTLD_THRESHOLD)
    return len(text_words) / runs if runs else float(len(text_words))
