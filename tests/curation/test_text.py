import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.text import (
    casefold_invariant_codepoints,
    casefold_nfc,
    first_n_words,
    has_word,
    normalize,
    shingles,
    split_passages,
    tokenize_normalized,
    words,
)


def test_case_white_space_and_composition_do_not_count() -> None:
    assert normalize("  The\tQuiet\n\nRIVER ") == "the quiet river"
    assert normalize("cafe\u0301") == normalize("caf\u00e9")
    assert normalize("Straße") == normalize("STRASSE")
    assert normalize("") == ""


def test_different_texts_stay_different() -> None:
    assert normalize("the river") != normalize("the rivers")
    assert normalize("résumé") != normalize("resume")
    assert normalize("no where") != normalize("nowhere")


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_equal_texts_in_either_unicode_form_have_one_normal_form(text: str) -> None:
    assert normalize(unicodedata.normalize("NFD", text)) == normalize(unicodedata.normalize("NFC", text))


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_normalized_text_has_no_outer_or_repeated_white_space(text: str) -> None:
    found = normalize(text)
    assert found == " ".join(found.split())


def test_punctuation_is_no_word_and_an_apostrophe_joins_one() -> None:
    assert words("Don't stop, she cried - 42 times!") == ["don't", "stop", "she", "cried", "42", "times"]
    assert words("l’été 'quoted'") == ["l’été", "quoted"]


def test_scripts_without_spaces_give_one_word_a_character() -> None:
    assert words("日本語 text") == ["日", "本", "語", "text"]
    assert words("ひらカタ") == ["ひ", "ら", "カ", "タ"]
    assert words("ไทย") == ["ไ", "ท", "ย"]


def test_emoji_are_no_words_but_the_words_around_them_are() -> None:
    assert words("👩\u200d👩\u200d👧 🎉") == []
    assert words("hello👋world") == ["hello", "world"]


def test_right_to_left_scripts_are_cut_at_spaces() -> None:
    assert words("שלום עולם") == ["שלום", "עולם"]
    assert words("مرحبا بالعالم") == ["مرحبا", "بالعالم"]


def test_vowel_signs_and_accents_stay_inside_their_word() -> None:
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words("مَرْحَبًا") == ["مَرْحَبًا"]
    assert len(words("İstanbul")) == 1
    assert words("q\u0301a") == ["q\u0301a"]


def test_a_text_without_letters_has_no_words_and_no_shingles() -> None:
    for text in ("", "   \n", "?! ... --", "🎉"):
        assert words(text) == []
        assert shingles(text, 3) == []


def test_shingles_are_runs_of_words() -> None:
    assert shingles("The old garden, the old gate.", 3) == [
        "the old garden",
        "old garden the",
        "garden the old",
        "the old gate",
    ]


def test_a_text_no_longer_than_a_shingle_is_one_shingle() -> None:
    assert shingles("old gate", 3) == ["old gate"]
    assert shingles("the old gate", 3) == ["the old gate"]
    assert shingles("gate", 1) == ["gate"]


@given(st.lists(st.sampled_from(["ant", "bee", "cat"]), max_size=12), st.integers(1, 5))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_there_is_one_shingle_for_each_place_where_one_fits(found: list[str], length: int) -> None:
    expected = 0 if not found else max(1, len(found) - length + 1)
    assert len(shingles(" ".join(found), length)) == expected


def test_shingles_of_characters_are_runs_over_the_words_joined_by_a_space() -> None:
    assert shingles("Ab, c!", 3, "characters") == ["ab ", "b c"]
    assert shingles("  ?? ab", 3, "characters") == ["ab"]
    assert shingles("...", 3, "characters") == []


def test_casefold_nfc_normalizes_all_but_white_space() -> None:
    assert casefold_nfc("E\u0301  Straße") == "é  strasse"
    assert tokenize_normalized(casefold_nfc("E\u0301  Straße")) == words("E\u0301  Straße")


def test_passages_end_at_sentences_and_paragraphs() -> None:
    text = "One two three. Four five six. Seven eight nine.\n\nTen eleven twelve thirteen."
    assert list(split_passages(text, 10, 30)) == [
        "One two three. Four five six.",
        "Seven eight nine.",
        "Ten eleven twelve thirteen.",
    ]


def test_a_short_paragraph_joins_the_next() -> None:
    assert list(split_passages("Title\n\nA sentence that is long enough.", 20, 80)) == [
        "Title A sentence that is long enough."
    ]


def test_a_passage_that_does_not_fit_is_left_out_and_those_around_it_stay() -> None:
    long = "x" * 50
    text = f"Before it all was well. {long}. After it all was well."
    assert list(split_passages(text, 10, 30)) == ["Before it all was well.", "After it all was well."]
    assert list(split_passages("Too short.", 20, 30)) == []
    assert list(split_passages("", 1, 30)) == []


@given(st.text(alphabet="ab .!?\n", max_size=300), st.integers(1, 20), st.integers(0, 60))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_passage_keeps_its_bounds_and_no_character_is_invented(text: str, shortest: int, more: int) -> None:
    found = list(split_passages(text, shortest, shortest + more))
    assert all(shortest <= len(passage) <= shortest + more for passage in found)
    kept_words, folded = " ".join(found).split(), iter(text.split())
    assert all(word in folded for word in kept_words)


def test_an_opening_ends_with_a_word_and_keeps_the_signs_among_them() -> None:
    assert first_n_words("“Well,” asked  the\nold man.", 3) == "“Well,” asked the"
    assert first_n_words("雨が降る", 2) == "雨が"
    assert first_n_words("two words", 5) == "two words"
    assert first_n_words("?!", 2) == ""


@pytest.mark.parametrize("text", ["", "?!", "a", "雨", "\u0e3f", "_", "\u0301", "« é »", "...7"])
def test_a_text_holds_a_word_exactly_if_it_has_words(text: str) -> None:
    assert has_word(normalize(text)) == bool(words(text))


@pytest.mark.parametrize("space", [" ", "  ", "\t", "\n", "\x0b", "\x1c", "\x1f", "\x85", "\u3000"])
def test_white_space_is_folded_wherever_it_stands(space: str) -> None:
    assert normalize(f"{space}The{space}END{space}") == "the end"


def test_settled_characters_stay_as_they_are_and_join_with_nothing_before_them() -> None:
    settled = np.flatnonzero(casefold_invariant_codepoints()).tolist()
    assert len(settled) > 100_000 and not {0xC9, 0x301, 0x1161, 0x11A8, 0xD800} & {*settled} and 0xE9 in settled
    assert all(casefold_nfc(chr(code)) == chr(code) for code in settled)
    joined = {unicodedata.decomposition(chr(code)).split()[-1] for code in range(0x110000) if _is_pair(chr(code))}
    assert not {int(code, 16) for code in joined} & {*settled}


def _is_pair(letter: str) -> bool:
    parts = unicodedata.decomposition(letter)
    return len(parts.split()) == 2 and not parts.startswith("<")
