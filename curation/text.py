"""How a text looks to a comparison: normalised, cut into words, shingles and passages.

Normalising is for comparing only: stored text is never changed by it. It applies Unicode NFC,
casefolding, and folds every run of white space to one space. Scripts that are written without
spaces give one word a character.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import islice

# Kana, CJK ideographs and Thai are written without spaces: there each character is a word.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Vowel signs and accents of their own belong to the letter before them, and \w does not know them.
_MARKS = "".join(sign for sign in map(chr, range(0x300, 0x1F000)) if unicodedata.category(sign)[0] == "M")
_LETTER = rf"[^\W{_UNSPACED}]"
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}+(?:['’]{_LETTER}+|[{_MARKS}]+{_LETTER}*)*")
_WORD_BEGINS = re.compile(rf"[\w{_UNSPACED}]")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def normalise(text: str) -> str:
    """The form in which two texts are compared: NFC, casefolded, white space folded."""
    if text.isascii():
        # The same, for a third of the price.
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def words(text: str) -> list[str]:
    """Words of the normalised text, in order; empty for a text without a letter, digit or underscore."""
    return _WORD.findall(normalise(text))


def holds_word(normalised: str) -> bool:
    """Whether a normalised text has any word."""
    return _WORD_BEGINS.search(normalised) is not None


def opening(text: str, count: int) -> str:
    """The text up to the end of its word number `count`, with the signs that stand before and among them."""
    end = 0
    for found in islice(_WORD.finditer(text), count):
        end = found.end()
    return " ".join(text[:end].split())


def shingles(text: str, length: int) -> list[str]:
    """Runs of `length` consecutive words; the whole text if it has fewer; empty without words."""
    found = words(text)
    if len(found) <= length:
        return [" ".join(found)] if found else []
    return [" ".join(found[i : i + length]) for i in range(len(found) - length + 1)]


def passages(text: str, shortest: int, longest: int) -> Iterator[str]:
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
