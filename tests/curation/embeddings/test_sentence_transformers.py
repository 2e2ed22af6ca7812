import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.embeddings.base import EmbeddingSettings, Encoder
from curation.embeddings.encoders import load_encoder

pytestmark = pytest.mark.processes

_PLAIN = EmbeddingSettings(backend="torch", precision="float32")
_LONG = "The old river runs east. " * 60
_TEXTS = [
    "A man is playing a guitar.",
    _LONG,
    "The stock market fell sharply today.",
    _LONG + "Quantum fields commute.",
]


def _load(**changes: str) -> Encoder:
    return load_encoder("minilm", _PLAIN.model_copy(update=changes))


def test_vectors_are_in_the_order_of_the_texts() -> None:
    texts = [*_TEXTS, *[f"{number} short words" for number in range(40)]]
    together = _load().encode(texts)
    for place in (0, 1, 2, 40):
        assert together[place] @ _load().encode([texts[place]])[0] == pytest.approx(1, abs=1e-5)


def test_truncated_texts_are_counted_and_their_end_has_no_influence() -> None:
    encoder = _load(long_texts="truncate")
    assert encoder.count_truncated(_TEXTS) == 2
    assert encoder.count_truncated(["word " * 253, "word " * 254, "word " * 255, "日本" * 40, ""]) == 1
    vectors = encoder.encode(_TEXTS)
    assert vectors[1] @ vectors[3] == pytest.approx(1, abs=1e-5)


def test_in_chunks_a_text_is_encoded_in_full() -> None:
    encoder = _load()
    assert encoder.count_truncated(_TEXTS) == 0
    vectors = encoder.encode(_TEXTS)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert 0.7 < vectors[1] @ vectors[3] < 0.9999
    assert np.allclose(vectors[[0, 2]], _load(long_texts="truncate").encode(_TEXTS)[[0, 2]], atol=1e-5)


def test_half_precision_changes_vectors_slightly() -> None:
    close = (_load(precision="bfloat16").encode(_TEXTS) * _load().encode(_TEXTS)).sum(1)
    assert (close > 0.99).all()
    assert (close < 1).any()


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("bfloat16", 0.999)])
def test_openvino_gives_the_same_vectors_without_telemetry(precision: str, least: float) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("needs the openvino extra")
    close = (_load(backend="openvino", precision=precision).encode(_TEXTS) * _load().encode(_TEXTS)).sum(1)
    assert (close > least).all()
    assert sys.modules.get("openvino_telemetry") is None


def test_a_missing_model_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "no-such-model").mkdir()
    with pytest.raises(ValueError, match="no-such-model"):
        load_encoder(str(tmp_path / "no-such-model"), _PLAIN)
