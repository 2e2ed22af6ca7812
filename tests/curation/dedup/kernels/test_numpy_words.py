import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.kernels import numba_words as compiled_words
from curation.dedup.kernels import numpy_words as vectorised_words
from curation.dedup.kernels.text_buffer import to_text_buffer
from curation.text import character_classes
from tests.curation.dedup.kernels.test_numba_words import TRICKY


def _same(texts: list[str], by_word: bool, length: int) -> None:
    folded = to_text_buffer(texts)
    where = (folded.content, folded.starts, folded.stops, by_word, length)
    hashes, starts = vectorised_words.shingle_hashes(*where)
    others, places = compiled_words.shingle_hashes(*where, character_classes())
    assert starts.tolist() == places.tolist()
    assert hashes.tolist() == others.tolist()
    assert hashes.dtype == others.dtype == np.uint64


@given(st.lists(TRICKY, max_size=6), st.integers(1, 7), st.booleans())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_hashes_are_those_of_the_compiled_kernel(texts: list[str], length: int, by_word: bool) -> None:
    _same(texts, by_word, length)


@pytest.mark.parametrize("size", [*range(1, 26), 63, 64, 65, 71, 72, 73, 1000, 100_000])
def test_words_of_every_size_hash_alike(size: int) -> None:
    word = ("abcdefghijklm" * (size // 13 + 1))[:size]
    _same([word, f"{word} {word}x 中{word}"], True, 2)
    _same([word], False, 5)
