"""Sampling settings as plain transformers reads them."""

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from tasks.backends import Sampling  # noqa: E402
from tasks.backends.inference.transformers_decoding import _apply_penalties, _filter_tokens  # noqa: E402

LOGITS = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()


def kept(**settings: float) -> list[int]:
    """Tokens that can still be drawn."""
    found = _filter_tokens(LOGITS, Sampling(**settings))
    assert float(found.sum()) == pytest.approx(1)
    return torch.nonzero(found).flatten().tolist()


def test_without_a_limit_every_token_can_be_drawn_with_its_probability() -> None:
    assert kept() == [0, 1, 2, 3]
    assert _filter_tokens(LOGITS, Sampling()).tolist() == pytest.approx([0.5, 0.25, 0.15, 0.1])


def test_top_k_keeps_the_k_likeliest() -> None:
    assert kept(top_k=2) == [0, 1]
    assert kept(top_k=9) == [0, 1, 2, 3]


def test_top_p_keeps_the_smallest_set_with_that_probability() -> None:
    assert kept(top_p=0.5) == [0]
    assert kept(top_p=0.6) == [0, 1]


def test_min_p_is_relative_to_the_likeliest() -> None:
    assert kept(min_p=0.3) == [0, 1, 2]
    assert kept(min_p=0.4) == [0, 1]


def penalised(**settings: float) -> list[float]:
    """Logits 2, 1, -1 and 0 after a prompt of token 2 and the words 0, 0, 1."""
    return _apply_penalties(torch.tensor([2.0, 1.0, -1.0, 0.0]), Sampling(**settings), [2], [0, 0, 1]).tolist()


def test_without_penalties_logits_stay() -> None:
    assert penalised() == [2, 1, -1, 0]


def test_repetition_counts_the_prompt_and_pushes_down_on_both_sides_of_zero() -> None:
    assert penalised(repetition_penalty=2) == [1, 0.5, -2, 0]


def test_the_frequency_penalty_counts_occurrences_and_the_presence_penalty_does_not() -> None:
    assert penalised(frequency_penalty=0.5) == [1, 0.5, -1, 0]
    assert penalised(presence_penalty=0.5) == [1.5, 0.5, -1, 0]
