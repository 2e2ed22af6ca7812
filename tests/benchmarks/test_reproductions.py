"""Reproduced experiments: their rows and their methods."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.figures import Figure
from benchmarks.reproductions.data_preparation import cut, edited
from benchmarks.reproductions.error_sources import shapley
from benchmarks.reproductions.run import ROWS, measure, settings_of
from benchmarks.reproductions.token_editing import EditSettings, TokenDistribution, edit_tokens


def test_a_finished_row_is_not_run_again_unless_its_settings_change(tmp_path: Path) -> None:
    ran: list[int] = []

    def row(*, rounds: int = 3) -> Iterator[Figure]:
        ran.append(rounds)
        yield Figure("rounds", rounds, "", "3", rounds == 3)

    for _ in range(2):
        figures = measure(rows={"small": row}, work=tmp_path, results=tmp_path)
        assert figures[0] == Figure("small: rounds", 3, "", "3", True)
    assert ran == [3]
    assert measure(rows={"small": partial(row, rounds=4)}, work=tmp_path, results=tmp_path)[0].holds is False
    assert ran == [3, 4]


def test_a_row_that_was_not_chosen_stays_as_it_was_written(tmp_path: Path) -> None:
    def row() -> Iterator[Figure]:
        yield Figure("claim", 1, "")

    written = {"figures": [{"name": "other: claim", "value": 7, "unit": "", "goal": "7", "holds": True}]}
    (tmp_path / "reproductions.json").write_text(json.dumps(written))
    figures = measure(["one"], rows={"other": row, "one": row}, work=tmp_path, results=tmp_path)
    assert [(one.name, one.value) for one in figures[:2]] == [("other: claim", 7), ("one: claim", 1)]
    with pytest.raises(ValueError, match="there is no row two; rows: one"):
        measure(["two"], rows={"one": row}, work=tmp_path, results=tmp_path)


def test_every_row_has_settings_that_can_be_kept() -> None:
    assert all(isinstance(settings_of(row), dict) for row in ROWS.values())


def test_parts_of_a_loss_sum_to_it_whatever_the_order() -> None:
    both, one, other, none = frozenset("ab"), frozenset("a"), frozenset("b"), frozenset[str]()
    parts = shapley({both: 5.0, one: 3.0, other: 2.5, none: 1.0})
    assert parts == {"a": [2.5, 2.0], "b": [1.5, 2.0]}
    assert sum(sum(values) for values in parts.values()) / 2 == 5 - 1


@pytest.mark.processes
def test_text_is_cut_and_edited_by_tokens() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from tasks.backends.training.tokenizer import train_bpe_tokenizer

    text = "The old river remembers the garden, and the garden forgets it. " * 3
    tokenizer = train_bpe_tokenizer([text], 300, 16)
    size = len(tokenizer.encode(text, add_special_tokens=False))
    assert "".join(cut(text, tokenizer, 1)) == text
    assert len(cut(text, tokenizer, 10)) == size // 10
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=16, **shape)).eval()
    # Longer than the network sees, and never surely known: as it was written.
    assert edited(text, tokenizer, network, EditSettings(threshold=0.9), 0) == (text, 0, size)
    other, again, tokens = edited(text, tokenizer, network, EditSettings(threshold=1e-9), 0)
    assert again == tokens == size and other != text


def _outlook(probabilities: list[float], width: int = 8) -> TokenDistribution:
    rng = np.random.default_rng(0)
    rows = len(probabilities)
    likeliest = np.array([rng.permutation(100)[:width] for _ in range(rows)], np.int64).reshape(rows, width)
    beside = rng.random((rows, width))
    return TokenDistribution(np.arange(1000, 1000 + rows), np.array(probabilities), likeliest, beside)


@pytest.mark.slow
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
