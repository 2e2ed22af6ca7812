"""Edit tokens: resample those that a prior model assigns a high probability, and keep all others.

Zhu et al. 2024, "How to synthesize text data without model collapse?", arXiv:2412.14689: a token with probability 0.99
or more under the prior model is resampled from the model's eight most likely tokens, by their probability, so most
often the same token is drawn. One pass over the probabilities of the unedited text: the context of a token is never
edited.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from heirloom.settings import Settings
from tasks.backends.toy.ngram import BEGIN, TOKEN, UNKNOWN, load_ngrams


class EditSettings(Settings):
    """Which tokens are edited, and from how many the new one is drawn."""

    threshold: float = Field(0.99, gt=0, le=1, description="probability at or above which a token is drawn again")
    top_k: int = Field(8, ge=1, description="likeliest tokens that the new one is drawn from")


@dataclass(frozen=True)
class TokenDistribution:
    """What a model expected at every token of a text."""

    tokens: NDArray[np.int64]
    """Shape (tokens,)."""
    probabilities: NDArray[np.float64]
    """Probability of each token given those before it, shape (tokens,)."""
    top_k_ids: NDArray[np.int64]
    """The likeliest tokens at each place, shape (tokens, k)."""
    top_k_probabilities: NDArray[np.float64]
    """Their probabilities, shape (tokens, k)."""


def token_distribution(model: Path, text: str, top_k: int) -> TokenDistribution:
    """Return the predictions of an n-gram model at every token of a text, with the `top_k` most likely tokens."""
    ngrams = load_ngrams(model)
    ids = [BEGIN] * (ngrams.order - 1) + ngrams.encode(text)
    distributions = [
        ngrams.distribution(ngrams.seen(ids[end - ngrams.order + 1 : end])) for end in range(ngrams.order - 1, len(ids))
    ]
    # Special tokens have no text, so they are no candidates.
    offered = [np.where(np.arange(len(one)) > UNKNOWN, one, 0) for one in distributions]
    shape = len(distributions), min(top_k, len(ngrams.vocabulary))
    top_k_ids = np.array([np.argsort(-one, kind="stable")[:top_k] for one in offered], np.int64).reshape(shape)
    tokens = np.array(ids[ngrams.order - 1 :], np.int64)
    return TokenDistribution(
        tokens=tokens,
        probabilities=np.array([one[token] for one, token in zip(distributions, tokens, strict=True)], np.float64),
        top_k_ids=top_k_ids,
        top_k_probabilities=np.array(
            [one[best] for one, best in zip(offered, top_k_ids, strict=True)], np.float64
        ).reshape(shape),
    )


def replace_tokens(model: Path, text: str, tokens: NDArray[np.int64]) -> str:
    """Return the text with those tokens replaced that differ from its own."""
    ngrams = load_ngrams(model)
    before = zip(TOKEN.findall(text), ngrams.encode(text), tokens.tolist(), strict=True)
    return "".join(written if token == now else ngrams.vocabulary[now] for written, token, now in before)


def edit_tokens(
    distribution: TokenDistribution, settings: EditSettings, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The tokens after editing, and which of them were drawn again; the draw may be what stood there.

    Raises:
        ValueError: the outlook holds fewer likeliest tokens than the draw is to be from.
    """
    if distribution.top_k_ids.shape[1] < settings.top_k:
        raise ValueError(
            f"the outlook has {distribution.top_k_ids.shape[1]} likeliest tokens, top_k asks for {settings.top_k}"
        )
    sure = distribution.probabilities >= settings.threshold
    order = np.argsort(-distribution.top_k_probabilities, axis=1, kind="stable")[:, : settings.top_k]
    weights = np.take_along_axis(distribution.top_k_probabilities, order, axis=1)[sure]
    cumulative = np.cumsum(weights, axis=1)
    rng = np.random.default_rng(seed).random((len(weights), 1)) * cumulative[:, -1:]
    drawn = (cumulative <= rng).sum(axis=1, keepdims=True)
    edited = distribution.tokens.copy()
    edited[sure] = np.take_along_axis(np.take_along_axis(distribution.top_k_ids, order, axis=1)[sure], drawn, axis=1)[
        :, 0
    ]
    return edited, sure
