import pytest

from tasks.backends import Completion
from tasks.backends.inference.json_schema import INVALID, invalid_json_marker
from tasks.backends.settings.json_schema import is_closed, validate_json_schema

_SCHEMA = '{"type": "object", "properties": {"year": {"type": "integer", "minimum": 1200}}, "required": ["year"]}'


def _finish_reason(text: str, reason: str = "stop", schema: str = _SCHEMA) -> str:
    return invalid_json_marker(schema)(Completion(text, reason, 1, 2, -1.0)).finish_reason


def test_a_text_that_keeps_to_the_schema_is_left_as_it_is() -> None:
    completion = Completion(' {"year": 1300}\n', "stop", 1, 2, -1.0)
    assert invalid_json_marker(_SCHEMA)(completion) is completion


@pytest.mark.parametrize(
    "text", ["", "{", '{"year": "1300"}', '{"year": 1100}', "[]", '{"year": 1300} and more', "[" * 100_000]
)
def test_a_text_that_violates_the_schema_is_marked_and_kept(text: str) -> None:
    assert _finish_reason(text) == INVALID


def test_a_text_that_reached_the_token_limit_keeps_that_finish_reason() -> None:
    assert _finish_reason('{"year": 13', "length") == "length"


def test_without_a_schema_everything_is_as_it_was() -> None:
    assert _finish_reason("no JSON at all", schema="") == "stop"


def test_a_schema_is_given_back_as_it_was_written() -> None:
    assert validate_json_schema(_SCHEMA) is _SCHEMA


@pytest.mark.parametrize(
    ("schema", "words"),
    [("{", "not valid JSON"), ('{"type": 3}', "not a valid JSON schema"), ("true", "must be a JSON object")],
)
def test_what_is_no_schema_is_refused(schema: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        validate_json_schema(schema)


_CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        (_CLOSED, True),
        ({"type": "string"}, True),
        ({"type": "object"}, False),
        ({**_CLOSED, "additionalProperties": True}, False),
        ({**_CLOSED, "required": []}, False),
        ({"properties": {"a": {}}}, False),
        ({**_CLOSED, "properties": {"a": {"type": "object"}}}, False),
        ({**_CLOSED, "properties": {"a": _CLOSED}}, True),
        ({**_CLOSED, "properties": {"properties": {"type": "string"}}, "required": ["properties"]}, True),
        ({**_CLOSED, "$defs": {"b": {"type": "object"}}}, False),
        ({"anyOf": [_CLOSED, {"type": "object"}]}, False),
        ({"type": "array", "items": _CLOSED}, True),
        ({"enum": [{"type": "object"}]}, True),
    ],
)
def test_a_schema_is_closed_if_no_object_of_it_is_open(schema: dict[str, object], closed: bool) -> None:
    assert is_closed(schema) is closed
