"""Edit tokens: resample those that a prior model assigns a high probability, and keep all others.

Zhu et al. 2024, "How to synthesize text data without model collapse?", arXiv:2412.14689: a token with probability 0.99
or more under the prior model is resampled from the model's eight most likely tokens, by their probability, so most
often the same token is drawn. One pass over the probabilities of the unedited text: the context of a token is never
edited.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from heirloom.settings import Settings


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
