"""How varied a sample of text is by itself: the late signs of collapse, on one number of words."""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy as entropy_of

from curation.metrics.ngram_counts import Counts, TokenizedTexts
from curation.text import words

_LEVEL = 6


_FITTED_RANKS = 1000


def entropy(counts: Counts) -> float:
    """Shannon entropy of the shares, in nats; 0 for nothing said."""
    return float(entropy_of(counts)) if counts.sum() else 0.0


def distinct_n(counts: Counts) -> float:
    """Distinct things over all things said: the type-token ratio for words, distinct-n for runs of n; 0 for nothing said.

    Li et al. 2016, "A diversity-promoting objective function", arXiv:1510.03055.
    """
    return float((counts > 0).sum() / max(1, counts.sum()))


def zipf_exponent(counts: Counts) -> float:
    """How steeply use falls with rank: the slope of log count on log rank over the first thousand ranks, sign turned.

    Each rank weighs 1 / rank, so that the many words said once do not decide it. 0 where fewer than two things are said.
    """
    ranked = np.sort(counts[counts > 0])[::-1][:_FITTED_RANKS]
    if len(ranked) < 2:
        return 0.0
    ranks = np.arange(1, len(ranked) + 1)
    return float(-np.polyfit(np.log(ranks), np.log(ranked), 1, w=1 / np.sqrt(ranks))[0])


def compression_ratio(texts: TokenizedTexts) -> float:
    """UTF-8 bytes over bytes after DEFLATE, words joined by spaces; higher says itself more often. 0 for nothing said."""
    raw = "\n".join(map(" ".join, texts)).encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, _LEVEL)) if raw else 0.0


_MTLD_FLOOR = 0.72


def lexical_diversity(texts: Sequence[str]) -> NDArray[np.float64]:
    """MTLD of each text, shape (texts,): mean length of runs in which the type-token ratio stays above 0.72.

    Forwards and backwards, averaged; 0 for a text without words. McCarthy & Jarvis 2010.
    """
    found = []
    for text in texts:
        said = words(text)
        found.append((_run_length(said) + _run_length(said[::-1])) / 2 if said else 0.0)
    return np.array(found, np.float64)


def _run_length(said: Sequence[str]) -> float:
    runs, types, length = 0.0, set[str](), 0
    for word in said:
        types.add(word)
        length += 1
        if len(types) / length <= _MTLD_FLOOR:
            runs, types, length = runs + 1, set(), 0
    if length:
        runs += (1 - len(types) / length) / (1 - _MTLD_FLOOR)
    return len(said) / runs if runs else float(len(said))
