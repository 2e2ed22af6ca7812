"""Semantic duplicates: texts whose vectors nearly coincide, by blocked exact search."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.duplicates import Duplicates
from curation.embedding import Vectors

_BLOCK = 1024


class SemanticSettings(BaseModel):
    """`[curate.semantic]`: what counts as meaning the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(
        0.92, gt=0, le=1, description="cosine similarity at or above which a text means the same as another"
    )


def find_semantic_duplicates(vectors: Vectors, reference: Vectors, settings: SemanticSettings) -> Duplicates:
    """For each row of `vectors`, shape (texts, dimensions), the most similar kept row of `reference` or before it."""
    known = np.concatenate([reference, vectors]) if len(reference) else vectors
    stays = np.ones(len(known), bool)
    answer = Duplicates.none(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        similar = block @ known[: len(reference) + start + len(block)].T
        for offset in range(len(block)):
            row = len(reference) + start + offset
            before = np.where(stays[:row], similar[offset, :row], -1)
            if not len(before):
                continue
            best = int(before.argmax())
            answer.similarity[start + offset] = before[best]
            if before[best] >= settings.threshold:
                answer.keeper[start + offset] = best
                stays[row] = False
    return answer
