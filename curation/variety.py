"""How varied a sample of text is by itself: the late signs of collapse, on one number of words."""

import zlib

import numpy as np
from scipy.stats import entropy as entropy_of

from curation.counting import Counts, Worded

_LEVEL = 6
_FITTED_RANKS = 1000


def entropy(said: Counts) -> float:
    """Shannon entropy of the shares, in nats; 0 for nothing said."""
    return float(entropy_of(said)) if said.sum() else 0.0


def distinct(said: Counts) -> float:
    """Distinct things over all things said: the type-token ratio for words, distinct-n for runs of n; 0 for nothing said.

    Li et al. 2016, "A diversity-promoting objective function", arXiv:1510.03055.
    """
    return float((said > 0).sum() / max(1, said.sum()))


def zipf_exponent(said: Counts) -> float:
    """How steeply use falls with rank: the slope of log count on log rank over the first thousand ranks, sign turned.

    Each rank weighs 1 / rank, so that the many words said once do not decide it. 0 where fewer than two things are said.
    """
    ranked = np.sort(said[said > 0])[::-1][:_FITTED_RANKS]
    if len(ranked) < 2:
        return 0.0
    ranks = np.arange(1, len(ranked) + 1)
    return float(-np.polyfit(np.log(ranks), np.log(ranked), 1, w=1 / np.sqrt(ranks))[0])


def compression_ratio(texts: Worded) -> float:
    """UTF-8 bytes over bytes after DEFLATE, words joined by spaces; higher says itself more often. 0 for nothing said."""
    raw = "\n".join(map(" ".join, texts)).encode("utf-8", "surrogatepass")
    return len(raw) / len(zlib.compress(raw, _LEVEL)) if raw else 0.0
