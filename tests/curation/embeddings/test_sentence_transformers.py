import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.embeddings.base import EmbeddingSettings, Encoder
from curation.embeddings.encoders import load_encoder

_PLAIN = EmbeddingSettings(backend="torch", precision="float32")
_LONG = "The old river runs east. " * 60
_TEXTS = [
    "A man is playing a guitar.",
    _LONG,
    "The stock market fell sharply today.",
    _LONG + "Quantum fields commute.",
]


def _opened(**changes: str) -> Encoder:
    return load_encoder("minilm", _PLAIN.model_copy(update=changes))


def test_texts_of_any_length_stay_in_their_order() -> None:
    texts = [*_TEXTS, *[f"{number} short words" for number in range(40)]]
    together = _opened().encode(texts)
    for place in (0, 1, 2, 40):
        assert together[place] @ _opened().encode([texts[place]])[0] == pytest.approx(1, abs=1e-5)


def test_what_is_cut_is_counted_and_the_end_has_no_part_in_the_vector() -> None:
    opened = _opened()
    assert opened.count_truncated(_TEXTS) == 2
    assert opened.count_truncated(["word " * 253, "word " * 254, "word " * 255, "日本" * 40, ""]) == 1
    vectors = opened.encode(_TEXTS)
    assert vectors[1] @ vectors[3] == pytest.approx(1, abs=1e-5)


def test_in_pieces_a_text_is_read_to_its_end() -> None:
    opened = _opened(long_texts="chunk")
    assert opened.count_truncated(_TEXTS) == 0
    vectors = opened.encode(_TEXTS)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert 0.7 < vectors[1] @ vectors[3] < 0.9999
    assert np.allclose(vectors[[0, 2]], _opened().encode(_TEXTS)[[0, 2]], atol=1e-5)


def test_half_precision_moves_vectors_a_little() -> None:
    close = (_opened(precision="bfloat16").encode(_TEXTS) * _opened().encode(_TEXTS)).sum(1)
    assert (close > 0.99).all()
    assert (close < 1).any()


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("bfloat16", 0.999)])
def test_openvino_gives_the_same_vectors_and_reports_to_nobody(precision: str, least: float) -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("needs the openvino extra")
    close = (_opened(backend="openvino", precision=precision).encode(_TEXTS) * _opened().encode(_TEXTS)).sum(1)
    assert (close > least).all()
    assert sys.modules.get("openvino_telemetry") is None


def test_a_model_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "no-such-model").mkdir()
    with pytest.raises(ValueError, match="no-such-model"):
        load_encoder(str(tmp_path / "no-such-model"), _PLAIN)
