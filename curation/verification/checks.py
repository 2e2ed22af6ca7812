"""Checks that say whether an answer is right: their kinds, as they stand in the column `checks` of a human record."""

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from heirloom.errors import HeirloomError
from heirloom.settings import Settings


class PythonTests(Settings):
    """Tests in Python that call the answer's function."""

    kind: Literal["python"] = "python"
    entry_point: str = Field(pattern=r"^[A-Za-z_]\w*$", description="name of the function that the tests call")
    tests: str = Field(
        description="Python source with assertions about the entry point, or with a function check(candidate)"
    )
    prompt: str = Field("", description="Python source that precedes the answer and the tests, such as imports")


class Answer(Settings):
    """A final answer that is equal to a known one: as a number where both are numbers, else as text."""

    kind: Literal["answer"] = "answer"
    answer: str
    tolerance: float = Field(0.0, ge=0, description="largest relative difference of numbers that counts as equal")


class JsonSchema(Settings):
    """A JSON value that is valid under a schema."""

    kind: Literal["json_schema"] = "json_schema"
    schema_: dict[str, object] = Field(alias="schema")


class Regex(Settings):
    """A text that a regular expression matches from its first to its last character."""

    kind: Literal["regex"] = "regex"
    pattern: str


class SqlResult(Settings):
    """A query for DuckDB whose result holds the same rows as the reference query, in any order."""

    kind: Literal["sql"] = "sql"
    reference: str
    setup: str = Field("", description="statements that create and fill the tables")


class UserCheck(Settings):
    """A function `check(answer, data) -> bool` in a file of the user's."""

    kind: Literal["user"] = "user"
    file: str = Field(description="Python source of a module that defines check(answer, data)")
    data: dict[str, object] = Field({}, description="what the function gets besides the answer")


Check: TypeAlias = PythonTests | Answer | JsonSchema | Regex | SqlResult | UserCheck
"""What makes an answer right."""

_ADAPTER: TypeAdapter[Check] = TypeAdapter(Annotated[Check, Field(discriminator="kind")])


def parse_check(encoded: str | Mapping[str, object]) -> Check:
    """Parse a check from JSON or from its fields.

    Raises:
        HeirloomError: it has no known kind, or a field is missing, unknown or invalid.
    """
    try:
        return _ADAPTER.validate_json(encoded) if isinstance(encoded, str) else _ADAPTER.validate_python(dict(encoded))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the check"
        raise HeirloomError(f"Invalid check: {place}: {first['msg']}") from error


def encode_check(check: Check) -> str:
    """Encode a check as JSON with sorted keys, as the column `checks` holds it."""
    return json.dumps(check.model_dump(mode="json", by_alias=True), sort_keys=True, ensure_ascii=False)


def is_equal_answer(given: str, check: Answer) -> bool:
    """Return whether the last line of an answer, without white space and a final period, equals the known answer.

    Numbers are compared as decimals, so that `1,200.0` equals `1200`; nothing is evaluated.
    """
    lines = [line.strip() for line in given.strip().splitlines() if line.strip()]
    text = _strip_answer(lines[-1]) if lines else ""
    expected = _strip_answer(check.answer)
    left, right = _as_number(text), _as_number(expected)
    if left is None or right is None:
        return text.casefold() == expected.casefold()
    return abs(left - right) <= Decimal(str(check.tolerance)) * max(abs(left), abs(right))


def _strip_answer(text: str) -> str:
    """Drop the marks around a final answer: `Answer: **42**.` and `#### 42` give `42`."""
    stripped = text.strip().removeprefix("####").strip().strip(_MARKS)
    if stripped.casefold().startswith(("answer:", "the answer is")):
        stripped = stripped.split(":", 1)[-1] if ":" in stripped else stripped[len("the answer is") :]
    return stripped.strip(_MARKS).removesuffix(".").strip(_MARKS)


def _as_number(text: str) -> Decimal | None:
    if len(text) > _LONGEST_NUMBER:
        return None
    try:
        number = Decimal(text.replace(",", ""))
    except InvalidOperation:
        return None
    # Numbers of a size that no answer has would overflow when they are compared.
    return number if number.is_finite() and abs(number.adjusted()) <= _LONGEST_NUMBER else None


_LONGEST_NUMBER = 100
_MARKS = "*`$ "
