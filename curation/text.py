"""Normalize texts for comparison, and cut them into words, shingles and passages.

Normalizing is for comparison only; stored text is never changed by it. It applies Unicode NFC and casefolding, and
collapses every run of white space to one space. In scripts that are written without spaces, each character is a word.
`_WORD` is the only definition of a word; the compiled kernel derives its own from it through `character_classes`.
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

# Kana, CJK ideographs and Thai are written without spaces, so each character is a word.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Combining vowel signs and accents belong to the letter before them, but \w does not match them.
_MARK_CODES = [code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code))[0] == "M"]
# As ranges, since a character class of two thousand single characters is searched one by one.
_STARTS = sorted(set(_MARK_CODES) - {code + 1 for code in _MARK_CODES})
_ENDS = sorted(set(_MARK_CODES) - {code - 1 for code in _MARK_CODES})
_MARKS = "".join(f"{chr(first)}-{chr(last)}" for first, last in zip(_STARTS, _ENDS, strict=True))
_LETTER = rf"[^\W{_UNSPACED}]"
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}+(?:['’]{_LETTER}+|[{_MARKS}]+{_LETTER}*)*")
_WORD_BEGINS = re.compile(rf"[\w{_UNSPACED}]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def casefold_nfc(text: str) -> str:
    """Apply NFC, then casefolding."""
    if text.isascii():
        # The same result in a third of the time.
        return text.lower()
    return unicodedata.normalize("NFC", text).casefold()


def normalize(text: str) -> str:
    """Return the form in which two texts are compared: NFC, casefolded, runs of white space collapsed."""
    if text.isascii() and text.isprintable() and "  " not in text:
        # A faster way for ASCII without white space other than single spaces.
        return text.lower().strip(" ")
    return " ".join(casefold_nfc(text).split())


def words(text: str) -> list[str]:
    """Return the words of the normalized text, in order; empty without a letter, digit or underscore."""
    return tokenize_normalized(casefold_nfc(text))


def has_word(normalized: str) -> bool:
    """Return whether a normalized text has any word."""
    return _WORD_BEGINS.search(normalized) is not None


def first_n_words(text: str, count: int) -> str:
    """Return the text up to the end of its word number `count`, with the punctuation before and between the words."""
    end = 0
    for match in islice(_WORD.finditer(text), count):
        end = match.end()
    return " ".join(text[:end].split())


def tokenize_normalized(text: str) -> list[str]:
    """Return the words of a text that is already normalized."""
    return _WORD.findall(text)


def shingles(text: str, length: int, unit: ShingleUnit = "words") -> list[str]:
    """Return the runs of `length` consecutive units; the whole text if it has fewer; nothing without words.

    Characters are those of the words joined by one space, so punctuation is ignored.
    """
    separator = " " if unit == "words" else ""
    units = words(text) if unit == "words" else list(" ".join(words(text)))
    if len(units) <= length:
        return [separator.join(units)] if units else []
    return [separator.join(units[i : i + length]) for i in range(len(units) - length + 1)]


OTHER, LETTER, MARK, UNSPACED, UNSPACED_MARK, APOSTROPHE = range(6)


@lru_cache(maxsize=1)
def character_classes() -> NDArray[np.uint8]:
    """Return the class of each code point in `_WORD`, shape (0x110000,).

    LETTER begins and continues a word, MARK continues one, APOSTROPHE continues one if a letter follows. UNSPACED is a
    word by itself and ends the one before; UNSPACED_MARK continues a word, or is a word by itself where there is none.
    """
    classes = np.zeros(0x110000, np.uint8)
    all_characters = "".join(map(chr, range(0x110000)))
    for code, pattern in ((UNSPACED, f"[{_UNSPACED}]+"), (MARK, f"[{_MARKS}]+"), (LETTER, f"{_LETTER}+")):
        for run in re.finditer(pattern, all_characters):
            run_classes = classes[run.start() : run.end()]
            run_classes[:] = np.where((code == MARK) & (run_classes == UNSPACED), UNSPACED_MARK, code)
    classes[[ord("'"), ord("’")]] = APOSTROPHE
    return classes


@lru_cache(maxsize=1)
def casefold_invariant_codepoints() -> NDArray[np.bool_]:
    """Return whether `casefold_nfc` never changes a non-ASCII code point, whatever its neighbors, shape (0x110000,).

    Conservative: False for all marks, parts of Hangul syllables, and code points from U+2A6E0 on.
    """
    invariant = np.zeros(0x110000, bool)
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x2A6E0)):
        letter = chr(code)
        invariant[code] = (
            letter.casefold() == letter
            and unicodedata.category(letter)[0] != "M"
            and not 0x1100 <= code < 0x1200
            and unicodedata.is_normalized("NFC", letter)
        )
    return invariant


def split_passages(text: str, shortest: int, longest: int) -> Iterator[str]:
    """Cut a document into passages of `shortest` to `longest` characters at paragraph and sentence ends.

    Paragraphs that are too short are joined to the next one. Passages that still do not fit are dropped.
    """
    pending = ""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
            if pending and len(pending) + 1 + len(sentence) > longest:
                yield from _if_fits(pending, shortest, longest)
                pending = ""
            pending = f"{pending} {sentence}".strip()
        if len(pending) >= shortest:
            yield from _if_fits(pending, shortest, longest)
            pending = ""
    yield from _if_fits(pending, shortest, longest)


def _if_fits(passage: str, shortest: int, longest: int) -> Iterator[str]:
    if shortest <= len(passage) <= longest:
        yield passage
