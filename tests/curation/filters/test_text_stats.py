import numpy as np
import pyarrow as pa
import pytest

from curation.filters.text_stats import TextStats


def _measured(measure: str, *texts: str) -> list[float]:
    return getattr(TextStats(pa.array(texts, pa.string())), measure)().tolist()


@pytest.mark.parametrize(
    ("measure", "text", "value"),
    [
        ("words", "  one two\n three ", 3),
        ("words", "", 0),
        ("words", "今天 good", 3),
        ("mean_word_length", "a bbb cc", 2),
        ("mean_word_length", "今天天气 four", 4),
        ("alphabetic_word_fraction", "one 2 3 x4", 0.5),
        ("alphabetic_word_fraction", "one , two .", 1),
        ("stop_words", "The the THE, and x", 2),
        ("stop_words", "“With” (that) of", 3),
        ("hash_to_word_ratio", "# one ## two", 0.75),
        ("ellipsis_fraction", "one... two… three four", 0.5),
        ("curly_brace_count", "{a} {", 2),
        ("lorem_ipsum_count", "Lorem Ipsum dolor", 1),
        ("sentences", 'One. "Two!" Three? 3.5 four', 3),
        ("sentences", "今天天气很好。我们去公园。", 2),
        ("bullet_line_fraction", "• one\n- two\nthree - four\n\n-five", 0.5),
        ("ellipsis_line_fraction", "one...\ntwo… \nthree.\nfour", 0.5),
        ("terminal_line_fraction", 'one.\ntwo\n"three"\nfour,', 0.5),
        ("short_line_fraction", f"short\n{'x' * 30}\n{'x' * 31}\n\n", 2 / 3),
        ("newline_fraction", "one\ntwo\nthree four", 0.5),
        ("duplicate_line_fraction", "one\ntwo\none\none", 0.5),
        ("duplicate_line_character_fraction", "aa\nbbbb\naa", 0.25),
        ("duplicate_paragraph_fraction", "one\n\ntwo\n \none", 1 / 3),
        ("duplicate_paragraph_character_fraction", "aa\n\nbbbb\n\naa", 0.25),
    ],
)
def test_a_measure_is_what_a_hand_counts(measure: str, text: str, value: float) -> None:
    assert _measured(measure, text) == [pytest.approx(value)]
    # Other texts of the block change nothing.
    assert _measured(measure, "One other text.", text, text, "")[1:3] == [pytest.approx(value)] * 2


@pytest.mark.parametrize(
    "measure", ["mean_word_length", "alphabetic_word_fraction", "hash_to_word_ratio", "short_line_fraction"]
)
def test_shares_of_an_empty_text_are_nan(measure: str) -> None:
    assert np.isnan(_measured(measure, "", " \n ")).all()


def test_runs_are_counted_over_words() -> None:
    shape = TextStats(pa.array(["a b a b", "a b c d"], pa.string()))
    assert shape.top_fraction(2).tolist() == [1, 0]
    assert shape.repeated_fraction(2).tolist() == [0.5, 0]


def test_no_texts_have_no_measures() -> None:
    assert _measured("words") == _measured("duplicate_line_fraction") == _measured("stop_words") == []
