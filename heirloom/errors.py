"""The base class of errors that users see as one sentence. Any other exception is a bug and keeps its traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class HeirloomError(ValueError):
    """A mistake in a recipe, an input or a store.

    The message states the value that was found, the values that are expected, and the remedy. The class derives from
    ValueError so that pydantic reports it together with the name of the field when a validator raises it.
    """


def one_line(error: Exception) -> str:
    """Return the message of a library's error on one line, at most 200 characters; its type if it has no message."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def closest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name closest to `name`, or an empty string if none is close."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.6)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean `X`?`` for the known name closest to `name`, or an empty string if none is close."""
    closest = closest_name(name, known)
    return f" Did you mean `{closest}`?" if closest else ""
