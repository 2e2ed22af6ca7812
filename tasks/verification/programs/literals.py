"""Encode Python literals as JSON, with their types, so that two programs exchange values and nothing else.

Runs in the sandbox beside `solution.py` and `grader.py`, without any package.
"""

import json
import math

MAX_BYTES = 4_000_000


class NotALiteralError(ValueError):
    """A value of another type than a number, a text, None or a collection of these."""


def encode(value):
    """Return one line of JSON for a value; raises NotALiteralError."""
    return json.dumps(_encode(value), ensure_ascii=True)


def decode(line):
    """Return the value of one line; raises ValueError."""
    if len(line) > MAX_BYTES:
        raise ValueError(f"a value of more than {MAX_BYTES} bytes")
    return _decode(json.loads(line))


def _encode(value):
    # Exact types: a subclass of int may compare as it likes.
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return {"int": str(value)}
    if kind is float:
        return {"float": repr(value)}
    if kind is complex:
        return {"complex": [repr(value.real), repr(value.imag)]}
    if kind in (bytes, bytearray):
        return {kind.__name__: list(value)}
    if kind in (list, tuple):
        return {kind.__name__: [_encode(item) for item in value]}
    if kind in (set, frozenset):
        return {kind.__name__: [_encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[_encode(key), _encode(item)] for key, item in value.items()]}
    raise NotALiteralError(f"{kind.__name__} is not a number, a text, None or a collection of these")


_COLLECTIONS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_BYTES = {"bytes": bytes, "bytearray": bytearray}


def _decode(encoded):
    if encoded is None or isinstance(encoded, (bool, str)):
        return encoded
    if not isinstance(encoded, dict) or len(encoded) != 1:
        raise ValueError("not an encoded value")
    ((kind, content),) = encoded.items()
    if kind == "int":
        return int(content)
    if kind == "float":
        return float(content)
    if kind == "complex":
        return complex(float(content[0]), float(content[1]))
    if kind in _BYTES:
        return _BYTES[kind](content)
    if kind in _COLLECTIONS:
        return _COLLECTIONS[kind](_decode(item) for item in content)
    if kind == "dict":
        return {_decode(key): _decode(item) for key, item in content}
    raise ValueError(f"not an encoded value: {kind}")


def same(left, right):
    """Return whether two literals are equal, with NaN equal to itself."""
    return left == right or (
        isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right)
    )
