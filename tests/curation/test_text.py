import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.text import (
    DEDENT,
    INDENT,
    NEW_LINE,
    Normalization,
    comparison_tokens,
    first_n_words,
    fold,
    fold_invariant_codepoints,
    has_word,
    normalize,
    shingles,
    tokenize_folded,
    words,
)

NORMALIZATIONS = pytest.mark.parametrize("normalization", ["text", "code"])
SYMBOLS = [
    chr(code)
    for code in (*range(0x21, 0x3000), *range(0x1F000, 0x1FB00))
    if unicodedata.category(chr(code))[0] == "S" and unicodedata.normalize("NFC", chr(code)) == chr(code)
]
"""Operators, currency signs, arrows, pictographs: 3,900 signs that carry a meaning."""


def test_unicode_form_line_ends_and_white_space_at_ends_do_not_count_for_exact_duplicates() -> None:
    assert normalize("cafe\u0301") == normalize("caf\u00e9")
    assert normalize("one\r\ntwo\rthree") == normalize("one\ntwo  \nthree\n\n") == "one\ntwo\nthree"
    assert normalize("  a ") == "a"
    assert normalize("") == normalize(" \n\t ") == ""


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("the river", "the rivers"),
        ("résumé", "resume"),
        ("no where", "nowhere"),
        ("The river", "the river"),
        ("getURL(user)", "getUrl(USER)"),
        ("if x:\n    a()\n    b()", "if x:\n    a()\nb()"),
        ("a\nb", "a b"),
        ("x = 'a  b'", "x = 'a b'"),
        ("x²", "x2"),
        ("½", "1⁄2"),
        ("ＡＢＣ", "ABC"),
    ],
)
def test_different_texts_are_no_exact_duplicates(text: str, other: str) -> None:
    assert normalize(text) != normalize(other)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_equal_texts_in_either_unicode_form_have_one_normal_form(text: str) -> None:
    assert normalize(unicodedata.normalize("NFD", text)) == normalize(unicodedata.normalize("NFC", text))
    assert fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


@given(st.text(st.one_of(st.sampled_from("a \r\n\t\u3000"), st.characters()), max_size=60))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_normalizing_twice_changes_nothing_more(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)
    assert fold(fold(text)) == fold(text)
    assert all(line == line.rstrip() for line in normalize(text).split("\n"))


_DISTINCT: dict[str, list[tuple[str, ...]]] = {
    "names of languages": [("the language C", "the language C++", "the language C#", "the language C--")],
    "operators": [
        ("12 + 5", "12 - 5", "12 * 5", "12 / 5", "12 % 5", "12 ^ 5", "12 = 5", "12 < 5", "12 > 5", "12 ≤ 5", "12 ± 5"),
        ("a & b", "a | b", "a ~ b", "a @ b", "a \\ b", "a b"),
        ("12 × 5", "12 ÷ 5", "12 − 5", "12 ∪ 5"),
    ],
    "negative numbers": [
        ("-7", "7"),
        ("is -7 above", "is 7 above"),
        ("(-1)", "(1)"),
        ("x=-1", "x=1"),
        ("5 --7", "5 -7"),
    ],
    "currency": [("$15", "€15", "£15", "¥15", "₹15", "15")],
    "shares": [("50%", "50‰", "50")],
    "emoji": [("so 😀", "so 😡", "so 🎉", "so"), ("👍", "👍🏽", "👎"), ("🇫🇷", "🇩🇪")],
    "flags of parts of countries": [
        (
            "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        )
    ],
    "powers and fractions": [("x²", "x2", "x³", "x₂"), ("½", "1/2", "12"), ("①", "1")],
    "accents": [("résumé", "resume"), ("мойка", "моика"), ("हिन्दी", "हन्द"), ("مَرْحَبًا", "مرحبا"), ("ที่", "ที")],
    "units": [("5′", "5″", "5"), ("5°", "5")],
    "signs of references": [("§ 5", "¶ 5", "† 5", "5")],
}


@pytest.mark.parametrize("kind", _DISTINCT)
@NORMALIZATIONS
def test_texts_that_differ_in_what_carries_meaning_have_different_tokens(
    kind: str, normalization: Normalization
) -> None:
    for texts in _DISTINCT[kind]:
        assert len({tuple(comparison_tokens(text, normalization)) for text in texts}) == len(texts)


_SAME: dict[str, list[tuple[str, ...]]] = {
    "case": [("The River", "the river", "THE RIVER"), ("Straße", "STRASSE"), ("ΟΔΟΣ", "οδος")],
    "white space": [("a b", "a\n\tb", " a\u3000b ", "a\u00a0b")],
    "punctuation of prose": [("Well, yes!", "well yes", "“Well” (yes)…", "well — yes", "‘well’ yes?")],
    "hyphens within words": [("well-known", "well known", "well‐known")],
    "full and half width": [("ＡＢＣ１２", "ABC12"), ("ｶﾞｷﾞ", "ガギ"), ("你好，世界！", "你好,世界!"), ("５＋３", "5+3")],
    "composition": [("cafe\u0301", "café"), ("가", "\u1100\u1161")],
    "variation selectors": [("❤\ufe0f", "❤"), ("#\ufe0f\u20e3", "#\u20e3")],
    "joiners": [("👩\u200d👧", "👩👧"), ("می\u200cخواهم", "میخواهم")],
    "marks of direction": [("\u200fשלום\u200e", "שלום"), ("\u2067abc\u2069", "abc")],
    "soft hyphens and word joiners": [("inter\u00adnational", "international"), ("a\u2060b", "ab"), ("\ufeffa", "a")],
    "ligatures": [("ﬁnd", "find")],
}


@pytest.mark.parametrize("kind", _SAME)
def test_texts_that_differ_in_typography_have_the_same_tokens(kind: str) -> None:
    for texts in _SAME[kind]:
        assert len({tuple(comparison_tokens(text)) for text in texts}) == 1, texts


def test_case_folds_without_regard_to_the_language() -> None:
    assert comparison_tokens("ISPARTA") == comparison_tokens("isparta") != comparison_tokens("ısparta")
    assert comparison_tokens("İzmir") != comparison_tokens("izmir")


@pytest.mark.slow
@NORMALIZATIONS
@given(text=st.text(max_size=30), place=st.integers(0, 30), symbol=st.sampled_from([*SYMBOLS, *"#%&*@/\\"]))
@settings(max_examples=600, deadline=None, derandomize=True)
def test_a_symbol_more_is_always_another_text(text: str, place: int, symbol: str, normalization: Normalization) -> None:
    longer = text[:place] + symbol + text[place:]
    assert comparison_tokens(longer, normalization) != comparison_tokens(text, normalization)


@pytest.mark.slow
@given(
    text=st.text(max_size=30),
    place=st.integers(0, 30),
    symbols=st.lists(st.sampled_from(SYMBOLS), min_size=2, max_size=2, unique_by=fold),
)
@settings(max_examples=600, deadline=None, derandomize=True)
def test_another_symbol_is_always_another_text(text: str, place: int, symbols: list[str]) -> None:
    tokens = [comparison_tokens(f"{text[:place]}{symbol}{text[place:]}") for symbol in symbols]
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize("symbol", ["+", "$", "😀", "→", "#", "%"])
def test_every_symbol_is_one_token(symbol: str) -> None:
    assert comparison_tokens(f"a {symbol}{symbol}b") == ["a", symbol, symbol, "b"]


def test_line_structure_of_code_counts_and_its_width_does_not() -> None:
    two, four, tabs = (f"if x:\n{pad}a()\n{pad}if y:\n{2 * pad}b()\nc()\n" for pad in ("  ", "    ", "\t"))
    assert comparison_tokens(two, "code") == comparison_tokens(four, "code") == comparison_tokens(tabs, "code")
    assert comparison_tokens(two.replace("\n", "\r\n"), "code") == comparison_tokens(two, "code")
    assert comparison_tokens("if x:\n    a()\nb", "code") == ["if", "x", ":", INDENT, "a", "(", ")", DEDENT, "b"]
    assert comparison_tokens("a\n\n  \nb", "code") == ["a", NEW_LINE, "b"]
    assert comparison_tokens("a b", "code") == ["a", "b"]
    assert comparison_tokens("    a\n  b\nc", "code") == ["a", DEDENT, "b", DEDENT, "c"]
    assert comparison_tokens("a\n        b\n    c\n    d", "code") == ["a", INDENT, "b", DEDENT, "c", NEW_LINE, "d"]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("for r in rows:\n    a(r)\n    b(r)\nc()", "for r in rows:\n    a(r)\nb(r)\nc()"),
        ("const url = getURL(user)", "const URL = getUrl(USER)"),
        ("f(x)", "f[x]"),
        ("a = !b", "a = b"),
        ("x = 'a'", 'x = "a"'),
        ("a.b", "a,b"),
        ("return\nx", "return x"),
        ("a-b", "a_b"),
        ("x;y", "x:y"),
    ],
)
def test_programs_that_differ_have_different_tokens(text: str, other: str) -> None:
    assert comparison_tokens(text, "code") != comparison_tokens(other, "code")


@given(st.lists(st.sampled_from(["a", " a", "  a", "\ta", "", " "]), max_size=8))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_every_line_of_code_but_the_first_is_preceded_by_its_structure(lines: list[str]) -> None:
    tokens = comparison_tokens("\n".join(lines), "code")
    filled = [line for line in lines if line.strip()]
    assert tokens.count("a") == len(filled)
    assert all({*group} <= {NEW_LINE, INDENT, DEDENT} and group for group in _between(tokens))


def _between(tokens: list[str]) -> list[list[str]]:
    places = [place for place, token in enumerate(tokens) if token == "a"]
    return [tokens[first + 1 : second] for first, second in pairwise(places)]


def test_punctuation_is_no_word_and_an_apostrophe_joins_one() -> None:
    assert words("Don't stop, she cried - 42 times!") == ["don't", "stop", "she", "cried", "42", "times"]
    assert words("l’été 'quoted'") == ["l’été", "quoted"]
    assert words("C++ costs $5") == ["c", "costs", "5"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("日本語 text", ["日本語", "text"]),
        ("今天天气很好。", ["今天", "天气", "很好"]),
        ("ยามเย็นเรา", ["ยาม", "เย็น", "เรา"]),
        ("ພວກເຮົາ", ["ພວກ", "ເຮົາ"]),
        ("aไb", ["a", "ไ", "b"]),
    ],
)
def test_scripts_without_spaces_are_segmented_into_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_scripts_without_spaces_give_one_token_a_character_with_its_marks() -> None:
    assert comparison_tokens("日本語 text") == ["日", "本", "語", "text"]
    assert comparison_tokens("ひらカタ") == ["ひ", "ら", "カ", "タ"]
    assert comparison_tokens("ที่นี่") == ["ที่", "นี่"]
    assert comparison_tokens("ខ្មែរ") == ["ខ្", "មែ", "រ"]
    assert comparison_tokens("བོད་ཡིག") == ["བོད", "ཡིག"]


def test_emoji_are_no_words_but_the_words_around_them_are() -> None:
    assert words("👩\u200d👩\u200d👧 🎉") == []
    assert words("hello👋world") == ["hello", "world"]


def test_right_to_left_scripts_are_cut_at_spaces() -> None:
    assert words("שלום עולם") == comparison_tokens("שלום עולם") == ["שלום", "עולם"]
    assert words("مرحبا بالعالم") == ["مرحبا", "بالعالم"]


def test_vowel_signs_and_accents_stay_inside_their_word() -> None:
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert words("مَرْحَبًا") == ["مَرْحَبًا"]
    assert len(words("İstanbul")) == 1
    assert words("q\u0301a") == ["q\u0301a"]


@given(st.text(st.one_of(st.sampled_from("日本語ไทยที่ខ្មែរ aé_'’-. \ud800"), st.characters()), max_size=40))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_words_are_parts_of_the_folded_text_in_order(text: str) -> None:
    rest = fold(text)
    for word in words(text):
        assert has_word(word)
        rest = rest[rest.index(word) + len(word) :]
    assert not has_word(rest.replace("\u0345", "")) or words(text)


def test_a_text_without_letters_has_no_words_and_only_symbols_are_tokens() -> None:
    for text in ("", "   \n", "?! ... ——", "🎉"):
        assert words(text) == []
    assert shingles("?! ... ——", 3) == []
    assert shingles("🎉", 3) == ["🎉"]


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


def test_folding_changes_all_but_white_space() -> None:
    assert fold("E\u0301  Straße") == "é  strasse"
    assert tokenize_folded(fold("E\u0301  Straße")) == words("E\u0301  Straße")


def test_an_opening_ends_with_a_word_and_keeps_the_signs_among_them() -> None:
    assert first_n_words("“Well,” asked  the\nold man.", 3) == "“Well,” asked the"
    assert first_n_words("雨が降る", 2) == "雨が"
    assert first_n_words("今天天气很好。", 2) == "今天天气"
    assert first_n_words("two words", 5) == "two words"
    assert first_n_words("?!", 2) == ""


@pytest.mark.parametrize("text", ["", "?!", "a", "雨", "\u0e3f", "_", "\u0301", "« é »", "...7"])
def test_a_text_holds_a_word_exactly_if_it_has_words(text: str) -> None:
    assert has_word(text) == bool(words(text))


@pytest.mark.slow
def test_settled_characters_stay_as_they_are_and_join_with_nothing_before_them() -> None:
    found = np.flatnonzero(fold_invariant_codepoints()).tolist()
    widths = ("<wide>", "<narrow>")
    settled = [code for code in found if not unicodedata.decomposition(chr(code)).startswith(widths)]
    assert {chr(code) for code in found} - {chr(code) for code in settled} >= {*"，！（）"}
    assert len(settled) > 100_000 and not {0xC9, 0x301, 0x1161, 0x11A8, 0xD800} & {*settled} and 0xE9 in settled
    assert all(fold(chr(code)) == chr(code) for code in settled)
    joined = {unicodedata.decomposition(chr(code)).split()[-1] for code in range(0x110000) if _is_pair(chr(code))}
    assert not {int(code, 16) for code in joined} & {*settled}


def _is_pair(letter: str) -> bool:
    parts = unicodedata.decomposition(letter)
    return len(parts.split()) == 2 and not parts.startswith("<")
