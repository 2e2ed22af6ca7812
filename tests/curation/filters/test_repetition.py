from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.filters.repetition import NgramRepetition


def _runs(texts: list[list[str]]) -> NgramRepetition:
    spellings = sorted({word for text in texts for word in text})
    occurrences = [
        (spellings.index(word), place, float(len(word))) for place, text in enumerate(texts) for word in text
    ]
    codes, owners, lengths = (np.array([one[part] for one in occurrences]) for part in range(3))
    return NgramRepetition(codes.astype(np.int64), owners.astype(np.int64), lengths.astype(float), len(texts))


def _top_by_hand(text: list[str], length: int) -> float:
    runs = Counter(tuple(text[start : start + length]) for start in range(len(text) - length + 1))
    heaviest = max((sum(map(len, run)) * count for run, count in runs.items() if count > 1), default=0)
    return min(1.0, heaviest / sum(map(len, text)))


def _repeated_by_hand(text: list[str], length: int) -> float:
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for start in range(len(text) - length + 1):
        run = tuple(text[start : start + length])
        if run in seen:
            covered |= set(range(start, start + length))
        seen.add(run)
    return sum(len(text[place]) for place in covered) / sum(map(len, text))


_TEXTS = st.lists(st.lists(st.sampled_from(["a", "bb", "ccc", "d"]), min_size=1, max_size=25), min_size=1, max_size=5)


@given(_TEXTS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_runs_of_every_length_are_what_a_hand_counts(texts: list[list[str]]) -> None:
    runs = _runs(texts)
    for length in range(2, 11):
        assert runs.top_fraction(length).tolist() == pytest.approx([_top_by_hand(text, length) for text in texts])
        assert runs.repeated_fraction(length).tolist() == pytest.approx(
            [_repeated_by_hand(text, length) for text in texts]
        )


def test_a_run_does_not_go_from_one_text_into_the_next() -> None:
    runs = _runs([["a", "bb"], ["ccc", "a", "bb"], ["ccc", "a"]])
    assert runs.repeated_fraction(2).tolist() == [0, 0, 0]


def test_lengths_may_be_asked_in_any_order() -> None:
    text = [["a", "bb", "ccc"] * 4]
    later, earlier = _runs(text), _runs(text)
    assert later.repeated_fraction(10) == earlier.repeated_fraction(10)
    assert later.top_fraction(2) == earlier.top_fraction(2) == pytest.approx(20 / 24)
