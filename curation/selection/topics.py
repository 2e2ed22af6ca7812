"""Which topics human text has, how much was said about each, and where the next prompts should go.

A topic is a cell of a spherical k-means over human records; low coverage is asked for first (`underrepresented_shares`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.embeddings.base import Vectors
from curation.embeddings.kmeans import fit_kmeans, nearest_clusters
from curation.selection.routing import underrepresented_shares
from curation.text import words

_WORDS = 5


class TopicSteeringSettings(BaseModel):
    """`[prompts.topic_steering]`: prompts go first to what the last generation said too little about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_topics: int = Field(0, ge=0, description="topics to tell apart in the reserve; 0 does not steer")
    encoder: str = Field(
        "minilm", description="who turns text into vectors: minilm, hashing, or a sentence-transformers model"
    )


@dataclass(frozen=True)
class TopicModel:
    """One entry a topic, but for `of_human`: the topic of each human record."""

    assignment: NDArray[np.int64]
    human_count: NDArray[np.int64]
    synthetic_count: NDArray[np.int64]
    prompt_share: NDArray[np.float64]
    """Of the next prompts; they sum to 1."""
    top_words: Sequence[tuple[str, ...]]
    """Said there more than elsewhere, the most telling first."""


def find_topics(texts: Sequence[str], vectors: Vectors, synthetic: Vectors, count: int) -> TopicModel:
    """At most `count` topics of human texts with these vectors; `said` are the vectors of what was said last."""
    centres = fit_kmeans(vectors, count)
    of_human = nearest_clusters(vectors, centres)[:, 0]
    human = np.bincount(of_human, minlength=len(centres))
    spoken = np.zeros(0, np.int64) if not len(synthetic) else nearest_clusters(synthetic, centres)[:, 0]
    counts = np.bincount(spoken, minlength=len(centres))
    shares = underrepresented_shares(human.astype(np.float64), counts.astype(np.float64))
    return TopicModel(of_human, human, counts, shares, _telling(texts, of_human, len(centres)))


def _telling(texts: Sequence[str], topics: NDArray[np.int64], count: int) -> list[tuple[str, ...]]:
    """Words of each topic by how much more texts of it hold them: pointwise, weighted by how many do."""
    inside = [Counter[str]() for _ in range(count)]
    for text, topic in zip(texts, topics.tolist(), strict=True):
        inside[topic].update(set(words(text)))
    everywhere = Counter[str]()
    for found in inside:
        everywhere.update(found)
    sizes = np.bincount(topics, minlength=count)
    return [
        tuple(
            sorted(
                found,
                key=lambda word: (-found[word] * np.log(found[word] * len(texts) / everywhere[word] / size), word),
            )[:_WORDS]
        )
        for found, size in zip(inside, sizes.tolist(), strict=True)
    ]
