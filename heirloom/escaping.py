"""Show texts of records, models and strangers on a terminal and in spreadsheets; `heirloom.markdown` has that of pages.

A terminal obeys control characters: a text could clear the screen, set the title, or type for the user. Characters that
override the direction of writing can make a text read as another one.
"""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, overrides and isolates of direction, and surrogates, which no output can encode."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that spreadsheets calculate."""


def visible(text: str, keep: str = "\n\t") -> str:
    """Return a text for a terminal: characters that it would obey are written as escapes of Python.

    Args:
        text: any text.
        keep: control characters that stay.
    """
    return _CONTROL.sub(lambda match: match[0] if match[0] in keep else _escaped(match[0]), text)


def without_formula(text: str) -> str:
    """Return a cell with an apostrophe in front, which spreadsheets hide, if a spreadsheet would calculate it."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
