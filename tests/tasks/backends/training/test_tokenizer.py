from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="the vocabulary is a transformers tokenizer")

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tasks.backends.models.tokenization import tokenize_texts
from tasks.backends.training.tokenizer import train_bpe_tokenizer
from tests.conftest import human_texts

_TOKENIZER = train_bpe_tokenizer(human_texts(40), 320, 64)


def _round_trip(text: str) -> str:
    (ids,) = tokenize_texts(_TOKENIZER, [text])
    return _TOKENIZER.decode(ids, skip_special_tokens=True)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert _round_trip(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  spaces , and a stop .",
        "日本語 🏔️ naïve",
        "tab\tline\n\n",
        "what <end> means, and <begin>, <pad>",
    ],
)
def test_such_texts_come_back_as_they_were(text: str) -> None:
    assert _round_trip(text) == text


def test_a_text_that_names_a_special_token_does_not_hold_one() -> None:
    special = {_TOKENIZER.bos_token_id, _TOKENIZER.eos_token_id, _TOKENIZER.pad_token_id}
    assert not special & set(tokenize_texts(_TOKENIZER, ["<end> of <begin>"])[0])


def test_a_stored_vocabulary_spells_alike(tmp_path: Path) -> None:
    _TOKENIZER.save_pretrained(tmp_path)
    stored = AutoTokenizer.from_pretrained(tmp_path)
    for text in (*human_texts(5, seed=9), "<end> of all"):
        (ids,) = tokenize_texts(_TOKENIZER, [text])
        assert tokenize_texts(stored, [text]) == [ids]
        assert stored.decode(ids) == text


def test_the_vocabulary_has_the_size_that_was_asked_for() -> None:
    assert len(_TOKENIZER) == 320
    assert len({_TOKENIZER.pad_token_id, _TOKENIZER.bos_token_id, _TOKENIZER.eos_token_id}) == 3
    assert _TOKENIZER.model_max_length == 64


def test_what_is_common_is_spelled_with_fewer_tokens() -> None:
    (common,) = human_texts(1)
    assert len(_TOKENIZER(common)["input_ids"]) < 0.75 * len(common.encode())


def test_the_same_texts_make_the_same_vocabulary() -> None:
    assert train_bpe_tokenizer(human_texts(40), 320, 64).get_vocab() == _TOKENIZER.get_vocab()
    assert train_bpe_tokenizer(human_texts(40, seed=1), 320, 64).get_vocab() != _TOKENIZER.get_vocab()
