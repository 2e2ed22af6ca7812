"""Cut documents into passages at ends of paragraphs, sentences and lines, in any script and without changing them.

ICU finds the boundaries: sentences (UAX 29), opportunities for a line break (UAX 14, by dictionary in Thai, Lao, Khmer
and Burmese) and user-perceived characters.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from icu4py.breakers import BaseBreaker, CharacterBreaker, LineBreaker, SentenceBreaker

_LOCALE = "en"
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*?(?=\S|[^\S\n]+\S|\Z)")
_BLANK_LINES = re.compile(r"(?:[^\S\n]*\n)+")
_LINE_END = re.compile(r"(?<!\n)\r?\n(?!\s*\n)")
"""The end of a line within a paragraph."""
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Passages:
    """The passages of a document in order, without white space between them."""

    texts: list[str]
    rest: str
    """Text at the end that is shorter than a passage; empty for most documents."""


def split_passages(document: str, shortest: int, longest: int) -> Passages:
    """Cut a document into passages of `shortest` to `longest` characters, 1 <= `shortest` <= `longest`.

    A passage ends with the first paragraph from `shortest` characters on. If that is more than `longest`, it ends with
    the last sentence that fits, or else line, or else where a line may break, or else between any two characters. Line
    breaks and indentation are kept.
    """
    ends = _Ends(document, shortest, longest)
    texts: list[str] = []
    begin = 0
    while True:
        begin = _skip_blank_lines(document, begin)
        end = ends.next_end(begin)
        if end is None:
            return Passages(texts=texts, rest=document[begin:].strip())
        texts.append(document[begin:end].rstrip())
        begin = end


def _skip_blank_lines(document: str, begin: int) -> int:
    match = _BLANK_LINES.match(document, begin)
    return match.end() if match else begin


class _Ends:
    """Where passages of a document may end, best places first."""

    def __init__(self, document: str, shortest: int, longest: int) -> None:
        # ICU takes no lone surrogates, and a line break is not the end of a sentence. Positions stay the same.
        self._document = document
        self._plain = _SURROGATE.sub("\ufffd", document)
        self._shortest, self._longest = shortest, longest
        self._length = len(document.rstrip())
        self._paragraphs = [match.end() for match in _PARAGRAPH_END.finditer(document)]
        unwrapped = _LINE_END.sub(lambda match: " " * len(match[0]), self._plain)
        self._sentences = list(_boundaries(unwrapped, 0, SentenceBreaker)) if len(document) > longest else []

    def next_end(self, begin: int) -> int | None:
        """Return the end of the passage that begins at `begin`; None if less than a passage is left."""
        left = self._length - begin
        if left < self._shortest:
            return None
        # The text after this passage should be none, or enough for another passage.
        found = self._best(begin, min(begin + self._longest, self._length - self._shortest))
        if found is None:
            found = self._length if left <= self._longest else self._best(begin, begin + self._longest)
        return found

    def _best(self, begin: int, latest: int) -> int | None:
        found = self._first(self._paragraphs, begin, latest)
        if found is not None or self._length - begin <= self._longest:
            return found
        window = self._plain[begin : begin + self._longest + 1]
        levels: list[Callable[[], Sequence[int]]] = [
            lambda: self._sentences,
            lambda: [begin + match.end() for match in re.finditer("\n", window)],
            lambda: list(_boundaries(window, begin, LineBreaker))[:-1],
            lambda: list(_boundaries(window, begin, CharacterBreaker))[:-1],
            lambda: range(begin + 1, begin + self._longest + 1),
        ]
        return next((end for level in levels if (end := self._last(level(), begin, latest)) is not None), None)

    def _first(self, ends: Sequence[int], begin: int, latest: int) -> int | None:
        for place in range(bisect_right(ends, begin), len(ends)):
            if ends[place] > latest:
                break
            if self._shortest <= self._size(begin, ends[place]) <= self._longest:
                return ends[place]
        return None

    def _last(self, ends: Sequence[int], begin: int, latest: int) -> int | None:
        for end in reversed(ends[bisect_right(ends, begin) : bisect_right(ends, latest)]):
            if self._shortest <= self._size(begin, end) <= self._longest:
                return end
        return None

    def _size(self, begin: int, end: int) -> int:
        return len(self._document[begin:end].rstrip())


def _boundaries(text: str, begin: int, breaker: Callable[[str, str], BaseBreaker]) -> Iterator[int]:
    """Yield where each segment of the text ends, plus `begin`."""
    return accumulate(map(len, breaker(text, _LOCALE)), initial=begin)
