import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reproductions.token_editing import EditSettings, TokenDistribution, edit_tokens


def _outlook(probabilities: list[float], width: int = 8) -> TokenDistribution:
    rng = np.random.default_rng(0)
    rows = len(probabilities)
    likeliest = np.array([rng.permutation(100)[:width] for _ in range(rows)], np.int64).reshape(rows, width)
    beside = rng.random((rows, width))
    return TokenDistribution(np.arange(1000, 1000 + rows), np.array(probabilities), likeliest, beside)


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.01, 1), st.integers(1, 8), st.integers(0, 9))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_tokens_below_the_threshold_are_untouched_and_the_rest_come_from_the_likeliest(
    probabilities: list[float], threshold: float, top_k: int, seed: int
) -> None:
    outlook = _outlook(probabilities)
    tokens, edited = edit_tokens(outlook, EditSettings(threshold=threshold, top_k=top_k), seed)
    assert edited.tolist() == [one >= threshold for one in probabilities]
    assert tokens[~edited].tolist() == outlook.tokens[~edited].tolist()
    for place in np.flatnonzero(edited):
        best = np.argsort(-outlook.top_k_probabilities[place])[:top_k]
        assert tokens[place] in outlook.top_k_ids[place][best]
    again, _ = edit_tokens(outlook, EditSettings(threshold=threshold, top_k=top_k), seed)
    assert again.tolist() == tokens.tolist()


def test_new_tokens_are_drawn_in_proportion_to_their_probability() -> None:
    rows = 6000
    outlook = TokenDistribution(
        np.zeros(rows, np.int64), np.ones(rows), np.tile([5, 6, 7], (rows, 1)), np.tile([0.1, 0.6, 0.3], (rows, 1))
    )
    tokens, _ = edit_tokens(outlook, EditSettings(top_k=2), 0)
    counts = np.bincount(tokens, minlength=8)
    assert counts[5] == 0
    assert abs(counts[6] - rows * 2 / 3) < 4 * np.sqrt(rows * 2 / 9)


def test_the_texts_handed_in_are_not_changed() -> None:
    outlook = _outlook([1.0, 1.0])
    edit_tokens(outlook, EditSettings(), 0)
    assert outlook.tokens.tolist() == [1000, 1001]


def test_too_few_likeliest_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="the outlook has 3 likeliest tokens, top_k asks for 8"):
        edit_tokens(_outlook([1.0], width=3), EditSettings(), 0)
