"""Find topics of human text, their coverage by synthetic text, and prompt shares that raise low coverage.

A topic is a cluster of a spherical k-means over human records.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from curation.embeddings.base import Vectors
from curation.embeddings.kmeans import fit_kmeans, nearest_clusters
from curation.selection.routing import underrepresented_shares
from curation.text import words
from heirloom.settings import Settings

_TOP_WORDS = 5


class TopicSteeringSettings(Settings):
    """`[prompts.topic_steering]`: more prompts from topics that the last generation covered too little."""

    num_topics: int = Field(
        0, ge=0, description="topics to find in the human training records; 0 turns topic steering off"
    )
    encoder: str = Field(
        "minilm", description="encoder of the texts: minilm, hashing, or a sentence-transformers model"
    )


@dataclass(frozen=True)
class TopicModel:
    """Topics of human records; arrays have one entry a topic, except `assignment`."""

    assignment: NDArray[np.int64]
    """Topic of each human record, shape (records,)."""
    human_count: NDArray[np.int64]
    synthetic_count: NDArray[np.int64]
    prompt_share: NDArray[np.float64]
    """Shares of the next prompts; they sum to 1."""
    top_words: Sequence[tuple[str, ...]]
    """Words more frequent in the topic than elsewhere, the most characteristic first."""


def find_topics(texts: Sequence[str], vectors: Vectors, synthetic: Vectors, count: int) -> TopicModel:
    """Return at most `count` topics.

    Args:
        texts: human records.
        vectors: their vectors, shape (records, dimensions).
        synthetic: vectors of the last generation's survivors, shape (survivors, dimensions).
        count: number of clusters.
    """
    centers = fit_kmeans(vectors, count)
    assignment = nearest_clusters(vectors, centers)[:, 0]
    human_count = np.bincount(assignment, minlength=len(centers))
    nearest = nearest_clusters(synthetic, centers)[:, 0] if len(synthetic) else np.zeros(0, np.int64)
    synthetic_count = np.bincount(nearest, minlength=len(centers))
    return TopicModel(
        assignment=assignment,
        human_count=human_count,
        synthetic_count=synthetic_count,
        prompt_share=underrepresented_shares(human_count.astype(np.float64), synthetic_count.astype(np.float64)),
        top_words=_top_words(texts, assignment, len(centers)),
    )


def _top_words(texts: Sequence[str], topics: NDArray[np.int64], num_topics: int) -> list[tuple[str, ...]]:
    """Rank the words of each topic by document frequency times log ratio to the frequency expected without topics."""
    topic_counts = [Counter[str]() for _ in range(num_topics)]
    for text, topic in zip(texts, topics.tolist(), strict=True):
        topic_counts[topic].update(set(words(text)))
    total_counts = Counter[str]()
    for counts in topic_counts:
        total_counts.update(counts)
    sizes = np.bincount(topics, minlength=num_topics).tolist()
    top_words = []
    for counts, size in zip(topic_counts, sizes, strict=True):
        scores = {
            word: count * np.log(count * len(texts) / total_counts[word] / size) for word, count in counts.items()
        }
        ranked = sorted(scores, key=lambda word: (-scores[word], word))
        top_words.append(tuple(ranked[:_TOP_WORDS]))
    return top_words
