import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.exact import exact_key, find_exact_duplicates, find_repeated_keys
from curation.text import normalize


def test_the_earliest_of_equal_texts_is_kept() -> None:
    found = find_exact_duplicates(["a b", "c", " a b", "a b \r\n", "C"])
    assert found.duplicate_of.tolist() == [-1, -1, 0, 0, -1]
    assert found.kept.tolist() == [True, True, False, False, True]


def test_reference_texts_come_before_the_texts() -> None:
    found = find_exact_duplicates(["new", "old", "old\n"], ["older", "old ", "old"])
    assert found.duplicate_of.tolist() == [-1, 1, 1]


def test_only_duplicates_have_a_similarity_and_none_has_an_estimate() -> None:
    found = find_exact_duplicates(["same", "same", "other"])
    assert np.isnan(found.similarity).tolist() == [True, False, True]
    assert found.similarity[1] == 1.0
    assert np.isnan(found.estimated).all()


def test_no_text_gives_no_match() -> None:
    assert len(find_exact_duplicates([], ["something"]).duplicate_of) == 0


@given(
    st.lists(st.text(alphabet="aAb \u0301", max_size=4), max_size=12), st.lists(st.text(alphabet="aAb ", max_size=4))
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_each_new_text_is_kept_once(texts: list[str], reference: list[str]) -> None:
    found = find_exact_duplicates(texts, reference)
    kept_texts = [normalize(text) for text, kept in zip(texts, found.kept, strict=True) if kept]
    assert len(kept_texts) == len(set(kept_texts))
    assert set(kept_texts) == {normalize(text) for text in texts} - {normalize(text) for text in reference}


def test_repeated_keys_give_the_same_duplicates_as_texts() -> None:
    texts = ["One text", "another", "One text ", "another\n", "third", " One text"]
    keys = np.frombuffer(b"".join(exact_key(normalize(text)) for text in texts), ">u8").reshape(-1, 2)
    order = np.arange(len(texts), dtype=np.uint64)
    shuffled = np.array([5, 0, 3, 1, 4, 2])
    high, low = (keys[shuffled, half].astype(np.uint64) for half in (0, 1))
    rows, firsts = find_repeated_keys(high, low, order[shuffled])
    found = dict(zip(shuffled[rows].tolist(), shuffled[firsts].tolist(), strict=True))
    expected = find_exact_duplicates(texts).duplicate_of
    assert found == {row: first for row, first in enumerate(expected.tolist()) if first >= 0} == {2: 0, 3: 1, 5: 0}


def test_no_keys_have_no_repeats() -> None:
    no_keys = np.zeros(0, np.uint64)
    assert [len(found) for found in find_repeated_keys(no_keys, no_keys, no_keys)] == [0, 0]
