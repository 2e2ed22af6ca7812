"""Fold texts for comparison, and cut them into tokens, words and shingles. Stored text is never changed by it.

Three questions have three answers:

- Are two texts exact duplicates? If `normalize` gives the same string. Case, symbols, indentation and line breaks
  count.
- Are two texts near-duplicates, or contaminated? That is decided on `comparison_tokens`: words and symbols, folded as
  `Normalization` defines. The compiled kernels derive the same tokens from `character_classes`.
- How many words, and which? `words` counts and compares vocabularies. In scripts without spaces, ICU's dictionaries
  segment; results there depend on ICU's version, so nothing that is stored for comparison is made of `words`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

import numpy as np
from icu4py.breakers import CharacterBreaker, WordBreaker
from numpy.typing import NDArray

ShingleUnit = Literal["words", "characters"]
Normalization = Literal["text", "code"]
"""How texts are folded for near-duplicate search: prose without case and punctuation, or code with them."""

NEW_LINE, INDENT, DEDENT = "\ufdd0", "\ufdd1", "\ufdd2"
"""Tokens of the line structure of code. These code points are noncharacters, which no text contains."""

# Scripts without spaces between words: line break class SA of UAX 14, Han, kana, Yi, Javanese and Balinese.
_UNSPACED_BLOCKS = (
    *(range(0x0E00, 0x0F00), range(0x1000, 0x10A0), range(0x1780, 0x1800), range(0x1950, 0x19E0)),
    *(range(0x1A20, 0x1AB0), range(0x1B00, 0x1B80), range(0x3005, 0x3008), range(0x3040, 0x3130)),
    *(range(0x31A0, 0x31C0), range(0x31F0, 0x3200), range(0x3400, 0x4DC0), range(0x4E00, 0xA4D0)),
    *(range(0xA980, 0xAA00), range(0xAA60, 0xAAE0), range(0xF900, 0xFB00), range(0x11700, 0x11750)),
    *(range(0x1AFF0, 0x1B170), range(0x20000, 0x32400)),
)
# Those of them that ICU has no dictionary for, so that each character with its marks counts as a word.
_SYLLABLES = "\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua000-\ua4cf\ua980-\ua9df\uaa80-\uaadf\U00011700-\U0001174f"
# Punctuation with a meaning of its own; the rest of Unicode's punctuation separates words and is not compared.
_PUNCTUATION_SYMBOLS = "#%&*@/\\‰‱§¶†‡※′″‴‵‶‷⁗⁂٪٭"
_APOSTROPHES = "'’"
# Code points without a shape: joiners, direction marks, soft hyphens, variation selectors.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef"
)
_EMOJI_TAGS = range(0xE0020, 0xE0080)
_TABULATED = 0x33480
"""Code points below this are looked up in Python's tables; beyond are only private and unassigned ones, and tags."""

OTHER, LETTER, MARK, SINGLE, APOSTROPHE, HYPHEN = range(6)


@lru_cache(maxsize=2)
def character_classes(normalization: Normalization = "text") -> NDArray[np.uint8]:
    """Return the class of each code point in a folded text, shape (0x110000,).

    - LETTER begins and continues a word; digits and underscores are letters.
    - MARK continues a token and begins none.
    - SINGLE is a token by itself: a letter of a script without spaces, or a symbol.
    - APOSTROPHE continues a word if a letter follows, else it is OTHER.
    - HYPHEN is OTHER between a letter or mark and a letter, else SINGLE.
    - OTHER separates tokens.

    For code, all punctuation is SINGLE.
    """
    every = [chr(code) for code in range(_TABULATED)]
    major = np.array([unicodedata.category(character) for character in every], "U2").view("U1")[::2]
    # Emoji and icons that are newer than Python's tables, or private, are SINGLE.
    classes = np.full(0x110000, SINGLE, np.uint8)
    table = classes[:_TABULATED]
    table[np.isin(major, list("CPZ"))] = OTHER
    table[np.isin(major, list("S"))] = SINGLE
    table[[unicodedata.category(character) in ("Cn", "Co") for character in every]] = SINGLE
    table[major == "M"] = MARK
    table[[character.isalnum() or character == "_" for character in every]] = LETTER
    for block in _UNSPACED_BLOCKS:
        part = classes[block.start : block.stop]
        part[part == LETTER] = SINGLE
    # Noncharacters, and the language tags and variation selectors of plane 14 but for those of flags.
    classes[0xFDD0:0xFDF0] = OTHER
    classes[0xFFFE::0x10000] = classes[0xFFFF::0x10000] = OTHER
    classes[0xE0000:0xE1000] = OTHER
    classes[_EMOJI_TAGS.start : _EMOJI_TAGS.stop] = SINGLE
    punctuation = np.flatnonzero(major == "P")
    if normalization == "code":
        classes[punctuation[punctuation != ord("_")]] = SINGLE
        classes[[ord(token) for token in (NEW_LINE, INDENT, DEDENT)]] = SINGLE
    else:
        classes[[code for code in punctuation.tolist() if _is_symbol(chr(code))]] = SINGLE
        classes[[ord(character) for character in _APOSTROPHES]] = APOSTROPHE
        classes[ord("-")] = HYPHEN
    return classes


def _is_symbol(punctuation: str) -> bool:
    return any(character in _PUNCTUATION_SYMBOLS for character in unicodedata.normalize("NFKC", punctuation))


@dataclass(frozen=True)
class _CharacterSet:
    """Patterns that match one, or a run, of some code points.

    Those of the basic plane stand apart, since `re` looks up only sets without others in a bitmap.
    """

    basic: str
    other: str

    @classmethod
    def of(cls, members: NDArray[np.bool_]) -> "_CharacterSet":
        edges = np.flatnonzero(np.diff(np.concatenate(([False], members, [False])).astype(np.int8))).reshape(-1, 2)
        ranges = [(first, after - 1) for first, after in edges.tolist()]
        basic = "".join(rf"\u{first:04x}-\u{min(last, 0xFFFF):04x}" for first, last in ranges if first <= 0xFFFF)
        other = "".join(rf"\U{max(first, 0x10000):08x}-\U{last:08x}" for first, last in ranges if last > 0xFFFF)
        return cls(f"[{basic}]", rf"(?=[\U00010000-\U0010ffff])[{other}]")

    @property
    def one(self) -> str:
        return f"(?:{self.basic}|{self.other})"

    @property
    def run(self) -> str:
        return f"(?:{self.basic}+(?:{self.other}{self.basic}*)*|(?:{self.other}{self.basic}*)+)"


@lru_cache(maxsize=1)
def _word_patterns() -> tuple[str, str, str]:
    """Return patterns of a letter, a mark and a word; in scripts without spaces nothing is a letter."""
    letter, mark = (_CharacterSet.of(character_classes() == kind) for kind in (LETTER, MARK))
    return letter.one, mark.one, f"{letter.run}(?:[{_APOSTROPHES}]{letter.run}|{mark.run}(?:{letter.run})?)*"


@lru_cache(maxsize=2)
def _token_pattern(normalization: Normalization) -> re.Pattern[str]:
    """Return the definition of a token, as a regular expression over a folded text."""
    letter, mark, word = _word_patterns()
    single = _CharacterSet.of(character_classes(normalization) == SINGLE).one
    if normalization == "code":
        return re.compile(f"(?:{letter}+(?:{mark}+{letter}*)*|{single}{mark}*)")
    hyphen = f"(?:(?<!{letter})(?<!{mark})-|-(?!{letter}))"
    return re.compile(f"{word}|{single}{mark}*|{hyphen}{mark}*")


_ASCII_TOKEN = re.compile(r"[0-9a-z_]+(?:'[0-9a-z_]+)*|[#$%&*+/<=>@\\^`|~]|(?<![0-9a-z_])-|-(?![0-9a-z_])")
_ASCII_WORD = re.compile(r"[0-9A-Za-z_]+(?:'[0-9A-Za-z_]+)*")
"""The same for ASCII text, several times faster."""


@lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    """Match a word, or in group 1 a run of a script without spaces."""
    return re.compile(f"{_word_patterns()[2]}|({_unspaced_run().pattern})")


@lru_cache(maxsize=1)
def _unspaced_run() -> re.Pattern[str]:
    blocks = "".join(rf"\U{block.start:08x}-\U{block.stop - 1:08x}" for block in _UNSPACED_BLOCKS)
    return re.compile(rf"(?:(?=[{blocks}])\w{_word_patterns()[1]}*)+")


# Exact duplicates

_TRAILING_SPACE = re.compile(r"[^\S\n]+\n")


def normalize(text: str) -> str:
    """Return the form in which exact duplicates are equal: NFC, line feeds, no white space at ends of lines or text."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in text:
        text = _TRAILING_SPACE.sub("\n", text)
    return text.strip()


# Near-duplicates

_INVISIBLE_RUN = re.compile(f"[{_INVISIBLE}]+")
_WIDTH_FORMS = {
    code: unicodedata.normalize("NFKC", chr(code))
    for code in (0x3000, *range(0xFF00, 0xFFF0))
    if unicodedata.decomposition(chr(code)).startswith(("<wide>", "<narrow>"))
}
_WIDTH_FORM = re.compile(f"[{''.join(map(chr, _WIDTH_FORMS))}]")


def fold(text: str, normalization: Normalization = "text") -> str:
    """Return the text whose tokens are compared.

    Both kinds drop invisible code points and apply NFC. Prose also folds case and full and half width; other
    compatibility forms (², ½, ①) stay as they are. Code keeps both, and its line structure becomes tokens.
    """
    if normalization == "code":
        return _mark_lines(unicodedata.normalize("NFC", _INVISIBLE_RUN.sub("", text)))
    if text.isascii():
        # The same result in a third of the time.
        return text.lower()
    text = _INVISIBLE_RUN.sub("", text)
    if _WIDTH_FORM.search(text):
        text = text.translate(_WIDTH_FORMS)
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _mark_lines(code: str) -> str:
    """Join the lines that are not empty by NEW_LINE, INDENT, or one DEDENT per level; widths do not count."""
    marked: list[str] = []
    levels: list[int] = []
    for line in code.expandtabs().splitlines():
        content = line.strip()
        if not content:
            continue
        indentation = len(line) - len(line.lstrip())
        if marked:
            if indentation > levels[-1]:
                marked.append(INDENT)
            elif indentation == levels[-1]:
                marked.append(NEW_LINE)
            while levels and indentation < levels[-1]:
                levels.pop()
                marked.append(DEDENT)
        if not levels or indentation > levels[-1]:
            levels.append(indentation)
        marked.append(content)
    return "".join(marked)


def comparison_tokens(text: str, normalization: Normalization = "text") -> list[str]:
    """Return the words and symbols of a text that near-duplicate search and decontamination compare, in order."""
    return tokenize_folded(fold(text, normalization), normalization)


def tokenize_folded(folded: str, normalization: Normalization = "text") -> list[str]:
    """Return the tokens of a text that is already folded."""
    pattern = _ASCII_TOKEN if normalization == "text" and folded.isascii() else _token_pattern(normalization)
    return pattern.findall(folded)


def shingles(text: str, length: int, unit: ShingleUnit = "words", normalization: Normalization = "text") -> list[str]:
    """Return the runs of `length` consecutive units; the whole text if it has fewer; nothing without a token.

    Args:
        text: any text.
        length: units in a shingle.
        unit: tokens, or characters of the tokens joined by one space.
        normalization: how the text is folded.
    """
    separator = " " if unit == "words" else ""
    tokens = comparison_tokens(text, normalization)
    units = tokens if unit == "words" else list(" ".join(tokens))
    if len(units) <= length:
        return [separator.join(units)] if units else []
    return [separator.join(units[i : i + length]) for i in range(len(units) - length + 1)]


@lru_cache(maxsize=1)
def fold_invariant_codepoints() -> NDArray[np.bool_]:
    """Return whether folding prose never changes the tokens by a non-ASCII code point, shape (0x110000,).

    Conservative: False for all marks, parts of Hangul syllables, and code points from U+2A6E0 on. Full-width
    punctuation is True although it folds to ASCII, since both only separate.
    """
    invariant = np.zeros(0x110000, bool)
    classes = character_classes()
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x2A6E0)):
        letter = chr(code)
        if folded_width := _WIDTH_FORMS.get(code):
            invariant[code] = len(folded_width) == 1 and classes[ord(folded_width)] == OTHER == classes[code]
            continue
        invariant[code] = (
            letter.casefold() == letter
            and classes[code] != MARK
            and not 0x1100 <= code < 0x1200
            and unicodedata.is_normalized("NFC", letter)
            and not _INVISIBLE_RUN.match(letter)
        )
    return invariant


# Words

_WORD_BEGINS = re.compile(r"\w")


def words(text: str) -> list[str]:
    """Return the words of the folded text, in order: no symbols, and empty without a letter, digit or underscore."""
    folded = fold(text)
    if folded.isascii():
        return _ASCII_WORD.findall(folded)
    return [folded[begin:end] for begin, end in _word_spans(folded)]


def has_word(text: str) -> bool:
    """Return whether a text has any word."""
    return _WORD_BEGINS.search(text) is not None


def first_n_words(text: str, count: int) -> str:
    """Return the text up to the end of its word number `count`, with the punctuation before and between the words."""
    ends = [end for _, end in islice(_word_spans(text), count)]
    return " ".join(text[: ends[-1] if ends else 0].split())


def _word_spans(text: str) -> Iterator[tuple[int, int]]:
    for match in _word_pattern().finditer(text):
        if match[1] is None:
            yield match.span()
        else:
            begin = match.start()
            for segment in _segments(match[1]):
                yield begin, begin + len(segment)
                begin += len(segment)


def _segments(run: str) -> Iterable[str]:
    """Segment a run of scripts without spaces into words, or into characters where ICU has no dictionary."""
    return CharacterBreaker(run, "en") if _SYLLABLE.match(run) else WordBreaker(run, "en")


_SYLLABLE = re.compile(f"[{_SYLLABLES}]")
_WORD_SEPARATOR = re.compile("([\u0f0b\u0f0c\u1361])")
"""Tibetan tsheg and Ethiopic word space."""


def separate_words(text: str) -> str:
    """Put spaces between the words of scripts that are written without; other text is not changed."""
    if text.isascii():
        return text
    separated = _unspaced_run().sub(lambda run: f" {' '.join(_segments(run[0]))} ", text)
    return _WORD_SEPARATOR.sub(r"\1 ", separated)
