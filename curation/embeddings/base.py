"""Types and settings of embeddings."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from heirloom.settings import Settings

Vectors: TypeAlias = NDArray[np.float32]

MINILM = "minilm"


class Encoder(Protocol):
    """Model that embeds texts."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return vectors of length 1, shape (texts, dimensions)."""
        ...

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of texts whose end has no influence on their vector."""
        ...


class EmbeddingSettings(Settings):
    """`[curate.embedding]`: how the encoder runs; the same in all generations, since another way changes neighbors."""

    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        description="library that runs the encoder; `auto`: OpenVINO if it is installed, else torch; decided once a "
        "run",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="data type of the encoder; `auto`: bfloat16 if the processor multiplies it faster than float32, "
        "else "
        "float32; decided once a run",
    )
    long_texts: Literal["truncate", "chunk"] = Field(
        "chunk",
        description="vector of a text longer than the encoder's limit: `chunk` averages the vectors of its chunks; "
        "`truncate` embeds its beginning only, so texts with equal beginnings are semantic duplicates (it is faster, "
        "and the texts are counted)",
    )


def l2_normalize(vectors: Vectors) -> Vectors:
    """Scale each row to length 1; a row of zeros is not changed."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
