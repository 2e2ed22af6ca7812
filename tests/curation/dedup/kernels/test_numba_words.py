import unicodedata

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation.dedup.kernels import numba_words as compiled_words
from curation.dedup.kernels.numba_words import _words_of
from curation.dedup.kernels.text_buffer import to_text_buffer
from curation.text import character_classes, shingles, words

TRICKY = st.text(
    st.one_of(
        st.sampled_from("aZ09_'’ -.\n\t\0é中ไ\u0e31\u0301\u093f\u0345İßſ\ud800\U0001f600\U0001d7d8\U00020000ﬁΣς"),
        st.characters(exclude_categories=()),
    ),
    max_size=60,
)


def _kernels_words(text: str) -> list[str]:
    folded = to_text_buffer([text])
    low = np.full(2 * len(folded.content) + 32, 7, np.uint8)
    size = _words_of(folded.content, 0, len(folded.content), character_classes(), low)
    return [word.decode("utf-8", "surrogatepass") for word in bytes(low[:size]).split(b"\0") if word]


@given(TRICKY)
@example("it's 'quoted' a''b '' x' 'y ' a'")
@example("l’été d'’a a’\u0301b q\u0301'a")
@example("ไทย aไb a\u0e31b \u0e31 中'中 a中")
@settings(max_examples=600, deadline=None, derandomize=True)
def test_the_kernels_words_are_those_of_text(text: str) -> None:
    assert _kernels_words(text) == words(text)


def test_every_character_is_the_same_to_the_kernel_and_to_text() -> None:
    everything = [chr(code) for code in range(0x110000)]
    for start in range(0, 0x110000, 0x1000):
        for template in ("a{}b", "{}"):
            text = " . ".join(template.format(character) for character in everything[start : start + 0x1000])
            assert _kernels_words(text) == words(text), hex(start)


@given(st.lists(TRICKY, max_size=5), st.integers(1, 6))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_equal_shingles_and_only_they_have_equal_hashes(texts: list[str], length: int) -> None:
    for unit in ("words", "characters"):
        folded = to_text_buffer(texts)
        hashes, starts = compiled_words.shingle_hashes(
            folded.content, folded.starts, folded.stops, unit == "words", length, character_classes()
        )
        expected = [shingles(text, length, unit) for text in texts]
        assert np.diff(starts).tolist() == [len(found) for found in expected]
        told = [shingle for found in expected for shingle in found]
        # Texts shorter than a shingle are one: the same characters can be a whole text and a shingle of another length.
        assert len(set(zip(told, hashes.tolist(), strict=True))) == len(set(told)) == len(set(hashes.tolist()))


def test_a_text_may_stand_anywhere_in_its_buffer() -> None:
    folded = to_text_buffer(["before don't", "'tis the word’s end'", "after"])
    alone = to_text_buffer(["'tis the word’s end'"])
    for by_word in (True, False):
        among, _ = compiled_words.shingle_hashes(
            folded.content, folded.starts[1:2], folded.stops[1:2], by_word, 2, character_classes()
        )
        single, _ = compiled_words.shingle_hashes(
            alone.content, alone.starts, alone.stops, by_word, 2, character_classes()
        )
        assert among.tolist() == single.tolist()


def test_classes_know_letters_marks_and_scripts_without_spaces() -> None:
    classes = character_classes()
    kinds = [int(classes[ord(character)]) for character in "aé_7 .'’\u0301中ไ\u0e31"]
    assert kinds == [1, 1, 1, 1, 0, 0, 5, 5, 2, 3, 3, 4]
    assert unicodedata.category("\u0e31") == "Mn"
