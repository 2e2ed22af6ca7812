"""Types and settings of embeddings."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Vectors = NDArray[np.float32]


MINILM = "minilm"


class Encoder(Protocol):
    """Two methods, so that any model fits."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (texts, dimensions)."""
        ...

    def count_truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts have an end that has no part in their vector."""
        ...


class EmbeddingSettings(BaseModel):
    """`[curate.embedding]`: how the encoder is run; one way for all generations, or neighbours change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="who runs the encoder; auto takes OpenVINO where it is installed, and is resolved once a run",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="arithmetic of the encoder; auto takes bfloat16 where the core multiplies it faster, and is resolved once a run",
    )
    long_texts: Literal["truncate", "chunk"] = Field(
        "truncate",
        description="a text longer than the encoder reads: only its beginning (and counted), or the mean over pieces of it",
    )


def l2_normalize(vectors: Vectors) -> Vectors:
    """Each row at length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
