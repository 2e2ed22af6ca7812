"""Quality filters, and the text statistics and repetition rates that they use."""

import math
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.filters.quality import _BLOCK_CHARACTERS, _RULES, Bounds, QualitySettings, quality_filter, quality_stats
from curation.filters.repetition import NgramRepetition
from curation.filters.text_stats import TextStats
from tests.conftest import human_texts
from tests.support.scripts import HUMAN_TEXTS

_ENDINGS = (
    "That was all they had to say of it.",
    "No friend has been here with me since spring.",
    "She went to buy bread and came back with apples!",
    "Have you ever seen anything like this before?",
    "It rained for nine days, then everything was green.",
    "Of those who left, only two wrote to us again.",
)

_PAGE = "\n".join(f"{text} {ending}" for text, ending in zip(human_texts(6), _ENDINGS, strict=True))
_DOCUMENTS = QualitySettings(preset="documents")

_FAULTY = {
    "words": "Too few words to be a document of its own.",
    "mean_word_length": " ".join("abc de f. to" for _ in range(100)),
    "alphabetic_word_fraction": _PAGE + " 100,000" * 80,
    "stop_words": " ".join(text.replace("The ", "A ").replace(" the ", " a ") for text in human_texts(8)),
    "hash_to_word_ratio": _PAGE + " #tag" * 50,
    "ellipsis_fraction": _PAGE.replace(" ", "... ", 60),
    "bullet_line_fraction": "\n".join(f"- {line}" for line in _PAGE.split("\n")),
    "ellipsis_line_fraction": "\n".join(f"{line}.." for line in _PAGE.split("\n")),
    "sentences": re.sub(r"[.!?]", ",", _PAGE),
    "lorem_ipsum_count": f"{_PAGE}\nLorem ipsum dolor sit amet.",
    "curly_brace_count": f"{_PAGE} {{",
    "terminal_line_fraction": "\n".join(f"{line.rstrip('.')} and then so" for line in _PAGE.split("\n")),
    "short_line_fraction": _PAGE + "\nNext." * 15,
    "newline_fraction": _PAGE.replace(" ", "\n"),
    "duplicate_line_fraction": "\n".join([_PAGE] + ["Read more and more of that."] * 5),
    "duplicate_line_character_fraction": "\n".join([_PAGE, max(_PAGE.split("\n"), key=len)] * 2),
    "duplicate_paragraph_fraction": "\n\n".join(_PAGE.split("\n") + ["Read on."] * 5),
    "duplicate_paragraph_character_fraction": f"{_PAGE}\n\n{_PAGE}",
    "top_2_gram_fraction": _PAGE + " winter garden" * 40,
    "top_3_gram_fraction": _PAGE + " one winter garden" * 40,
    "top_4_gram_fraction": _PAGE + " one more winter garden" * 40,
    **{f"repeated_{length}_gram_fraction": f"{_PAGE} {_PAGE}" for length in range(5, 11)},
}


def test_a_page_of_prose_passes_every_rule_of_both_presets() -> None:
    for settings in (_DOCUMENTS, QualitySettings()):
        result = quality_filter([_PAGE], settings)
        assert result.reason.to_pylist() == [""]
        assert result.score.to_pylist() == [None]


@pytest.mark.parametrize("rule", list(_RULES))
def test_each_rule_drops_its_texts_and_stores_the_statistic(rule: str) -> None:
    limit = _RULES[rule].documents or (0, 0)
    alone = QualitySettings.model_validate(dict.fromkeys(_RULES, False) | {rule: {"min": limit[0], "max": limit[1]}})
    result = quality_filter([_PAGE, _FAULTY[rule]], alone)
    assert result.kept.tolist() == [True, False]
    assert result.reason[1].as_py().startswith(f"{rule} ")
    assert not limit[0] <= result.score[1].as_py() <= limit[1]
    assert result.score[1].as_py() == quality_stats([_FAULTY[rule]])[rule][0].as_py()


@pytest.mark.parametrize("rule", list(_RULES))
def test_each_rule_can_be_switched_off(rule: str) -> None:
    assert rule in dict(QualitySettings.model_validate({rule: {"min": 0, "max": 1}}).limits())
    assert rule not in dict(QualitySettings.model_validate({rule: False}).limits())


def test_a_bound_that_is_left_out_does_not_apply() -> None:
    assert dict(QualitySettings.model_validate({"words": {"max": 9}}).limits())["words"] == (-math.inf, 9)
    texts = ["one two three four", "one", ""]
    assert quality_filter(texts, QualitySettings(words=Bounds(min=2))).kept.tolist() == [True, False, False]


def test_the_settings_and_the_rules_have_the_same_names() -> None:
    assert list(_RULES) == [name for name in QualitySettings.model_fields if name != "preset"]


def test_published_values_are_those_of_the_papers() -> None:
    limits = dict(_DOCUMENTS.limits())
    assert limits["words"] == (50, 100_000)
    assert limits["mean_word_length"] == (3, 10)
    assert [limits[f"top_{length}_gram_fraction"][1] for length in (2, 3, 4)] == [0.2, 0.18, 0.16]
    assert [limits[f"repeated_{length}_gram_fraction"][1] for length in range(5, 11)] == [
        *(0.15, 0.14, 0.13, 0.12, 0.11, 0.1)
    ]


@pytest.mark.parametrize(
    "text", ["Yes, of course.", "The capital of France is Paris.", "今天天气很好，我们去公园。", "O que é isso?"]
)
def test_short_answers_pass_the_short_preset(text: str) -> None:
    assert quality_filter([text], QualitySettings()).reason.to_pylist() == [""]


@pytest.mark.parametrize("script", HUMAN_TEXTS)
def test_human_sentences_of_every_script_pass_the_short_preset(script: str) -> None:
    assert quality_filter([HUMAN_TEXTS[script]], QualitySettings()).reason.to_pylist() == [""]


@pytest.mark.parametrize("script", ["Thai", "Lao", "Khmer", "Burmese", "Tibetan", "Chinese", "Japanese"])
def test_repetition_is_found_in_scripts_without_spaces(script: str) -> None:
    repeated = quality_filter([HUMAN_TEXTS[script][:24] * 12], QualitySettings())
    assert "gram" in repeated.reason.to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ha " * 30, "mean_word_length above 14"),
        ("0.1 -2.3 4.5 6", "alphabetic_word_fraction below 0.5"),
        ("", "words below 3"),
    ],
)
def test_texts_that_are_no_answer_fail_the_short_preset(text: str, rule: str) -> None:
    expected = "top_2_gram_fraction above 0.5" if text.startswith("ha") else rule
    assert quality_filter([text], QualitySettings()).reason.to_pylist() == [expected]


def test_a_looser_limit_drops_no_more() -> None:
    texts = [text[: 20 * place] for place, text in enumerate(human_texts(30), 1)]
    dropped = [
        int((~quality_filter(texts, QualitySettings(words=Bounds(min=least))).kept).sum()) for least in (30, 20, 10, 3)
    ]
    assert dropped == sorted(dropped, reverse=True)
    assert dropped[0] > dropped[-1]


def test_texts_of_many_blocks_are_decided_in_order() -> None:
    texts = ["x" * (_BLOCK_CHARACTERS // 3), "one two three."] * 5
    result = quality_filter(texts, QualitySettings())
    assert result.kept.tolist() == [False, True] * 5


def test_a_lone_surrogate_counts_as_a_question_mark() -> None:
    assert quality_filter(["one \ud800 two three"], QualitySettings()).reason.to_pylist() == [""]


def test_no_texts_give_no_rows() -> None:
    assert quality_filter([], _DOCUMENTS).reason.to_pylist() == []
    assert quality_stats([]).num_rows == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"words": {"min": 5, "max": 2}},
        {"words": (1, 2)},
        {"words": True},
        {"wrds": {"min": 1}},
        {"preset": "web"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        QualitySettings.model_validate(wrong)


def _measured(measure: str, *texts: str) -> list[float]:
    return getattr(TextStats(pa.array(texts, pa.string())), measure)().tolist()


@pytest.mark.parametrize(
    ("measure", "text", "value"),
    [
        ("words", "  one two\n three ", 3),
        ("words", "", 0),
        ("words", "今天 good", 2),
        ("words", "བོད་ཡིག་ཡིན།", 3),
        ("words", "ខ្ញុំចូលចិត្តសៀវភៅ", 3),
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
@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
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
