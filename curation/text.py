"""How a text looks to a comparison: normalized, cut into words, shingles and passages.

Normalising is for comparing only: stored text is never changed by it. It applies Unicode NFC,
casefolding, and folds every run of white space to one space. Scripts that are written without
spaces give one word a character. What a word is stands in `_WORD` alone; the compiled kernel reads it from there,
through `character_classes`.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ShingleUnit = Literal["words", "characters"]

# Kana, CJK ideographs and Thai are written without spaces: there each character is a word.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Vowel signs and accents of their own belong to the letter before them, and \w does not know them.
_SIGNS = [code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code))[0] == "M"]
# Written as runs, for a class of two thousand single characters is searched one by one.
_STARTS = sorted(set(_SIGNS) - {code + 1 for code in _SIGNS})
_ENDS = sorted(set(_SIGNS) - {code - 1 for code in _SIGNS})
_MARKS = "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(_STARTS, _ENDS, strict=True))
_LETTER = rf"[^\W{_UNSPACED}]"
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}+(?:['’]{_LETTER}+|[{_MARKS}]+{_LETTER}*)*")
_WORD_BEGINS = re.compile(rf"[\w{_UNSPACED}]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def casefold_nfc(text: str) -> str:
    """NFC, then casefolded."""
    if text.isascii():
        # The same, for a third of the price.
        return text.lower()
    return unicodedata.normalize("NFC", text).casefold()


def normalize(text: str) -> str:
    """The form in which two texts are compared: NFC, casefolded, white space folded."""
    if text.isascii() and text.isprintable() and "  " not in text:
        # The same again: no white space but single spaces, which need not be found one by one.
        return text.lower().strip(" ")
    return " ".join(casefold_nfc(text).split())


def words(text: str) -> list[str]:
    """Words of the normalized text, in order; empty for a text without a letter, digit or underscore."""
    return tokenize_normalized(casefold_nfc(text))


def has_word(normalized: str) -> bool:
    """Whether a normalized text has any word."""
    return _WORD_BEGINS.search(normalized) is not None


def first_n_words(text: str, count: int) -> str:
    """The text up to the end of its word number `count`, with the signs that stand before and among them."""
    end = 0
    for found in islice(_WORD.finditer(text), count):
        end = found.end()
    return " ".join(text[:end].split())


def tokenize_normalized(text: str) -> list[str]:
    """Words of a text that is folded already."""
    return _WORD.findall(text)


def shingles(text: str, length: int, unit: ShingleUnit = "words") -> list[str]:
    """Runs of `length` consecutive units; the whole text if it has fewer; empty without words.

    Characters are those of the words joined by one space, so that punctuation never counts.
    """
    between = " " if unit == "words" else ""
    found = words(text) if unit == "words" else list(" ".join(words(text)))
    if len(found) <= length:
        return [between.join(found)] if found else []
    return [between.join(found[i : i + length]) for i in range(len(found) - length + 1)]


OTHER, LETTER, MARK, UNSPACED, UNSPACED_MARK, APOSTROPHE = range(6)


@lru_cache(maxsize=1)
def character_classes() -> NDArray[np.uint8]:
    """What each code point is to `_WORD`, shape (0x110000,).

    LETTER begins and continues a word, MARK continues one, APOSTROPHE does so between a word and a letter. UNSPACED is a
    word by itself and ends one; UNSPACED_MARK is a word by itself where it does not continue one.
    """
    classes = np.zeros(0x110000, np.uint8)
    everything = "".join(map(chr, range(0x110000)))
    for code, pattern in ((UNSPACED, f"[{_UNSPACED}]+"), (MARK, f"[{_MARKS}]+"), (LETTER, f"{_LETTER}+")):
        for run in re.finditer(pattern, everything):
            found = classes[run.start() : run.end()]
            found[:] = np.where((code == MARK) & (found == UNSPACED), UNSPACED_MARK, code)
    classes[[ord("'"), ord("’")]] = APOSTROPHE
    return classes


@lru_cache(maxsize=1)
def casefold_invariant_codepoints() -> NDArray[np.bool_]:
    """Code points beyond ASCII that folding leaves as they are, whatever stands beside them, shape (0x110000,).

    Not all of them: no mark, no part of a Hangul syllable, and nothing beyond the second supplementary plane.
    """
    settled = np.zeros(0x110000, bool)
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x2A6E0)):
        letter = chr(code)
        settled[code] = (
            letter.casefold() == letter
            and unicodedata.category(letter)[0] != "M"
            and not 0x1100 <= code < 0x1200
            and unicodedata.is_normalized("NFC", letter)
        )
    return settled


def split_passages(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Cut a document into passages of `shortest` to `longest` characters at paragraph and sentence ends.

    Paragraphs that are too short join the next one; what still does not fit is left out.
    """
    pending = ""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
            if pending and len(pending) + 1 + len(sentence) > longest:
                yield from _fitting(pending, shortest, longest)
                pending = ""
            pending = f"{pending} {sentence}".strip()
        if len(pending) >= shortest:
            yield from _fitting(pending, shortest, longest)
            pending = ""
    yield from _fitting(pending, shortest, longest)


def _fitting(passage: str, shortest: int, longest: int) -> Iterator[str]:
    if shortest <= len(passage) <= longest:
        yield passage
