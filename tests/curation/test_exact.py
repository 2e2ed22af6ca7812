import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.exact import find_exact_duplicates
from curation.text import normalise


def test_the_earliest_of_equal_texts_is_the_keeper() -> None:
    found = find_exact_duplicates(["a b", "c", "A  B", "a b ", "C"])
    assert found.keeper.tolist() == [-1, -1, 0, 0, 1]
    assert found.kept.tolist() == [True, True, False, False, False]


def test_the_reference_keeps_before_the_texts() -> None:
    found = find_exact_duplicates(["new", "old", "OLD"], ["older", "Old", "old"])
    assert found.keeper.tolist() == [-1, 1, 1]


def test_only_duplicates_have_a_similarity_and_none_has_an_estimate() -> None:
    found = find_exact_duplicates(["same", "same", "other"])
    assert np.isnan(found.similarity).tolist() == [True, False, True]
    assert found.similarity[1] == 1.0
    assert np.isnan(found.estimate).all()


def test_no_text_gives_no_answer() -> None:
    assert len(find_exact_duplicates([], ["something"]).keeper) == 0


@given(
    st.lists(st.text(alphabet="aAb \u0301", max_size=4), max_size=12), st.lists(st.text(alphabet="aAb ", max_size=4))
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_what_stays_is_each_new_text_once(texts: list[str], reference: list[str]) -> None:
    found = find_exact_duplicates(texts, reference)
    stays = [normalise(text) for text, kept in zip(texts, found.kept, strict=True) if kept]
    assert len(stays) == len(set(stays))
    assert set(stays) == {normalise(text) for text in texts} - {normalise(text) for text in reference}
