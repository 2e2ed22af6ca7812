"""Whether a completion is what its JSON schema asks for: looked at again here, whoever promised it.

A grammar holds tokens to a schema only as far as it knows the schema's words; what it lets pass is marked, never passed on as good.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from tasks.backends import Completion

INVALID = "invalid"


def check_schema(schema: str) -> str:
    """The schema, if it is one.

    Raises:
        ValueError: it is not JSON, or no JSON schema.
    """
    try:
        parsed = json.loads(schema)
        Draft202012Validator.check_schema(parsed)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    except SchemaError as error:
        raise ValueError(f"it is no JSON schema: {error.message}") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"it is no JSON schema that says anything: {schema}")
    return schema


def marker(schema: str) -> Callable[[Completion], Completion]:
    """Marks a completion that does not keep to `schema`; one that was cut stays `length`, which says why it does not."""
    if not schema:
        return lambda completion: completion
    validator = Draft202012Validator(json.loads(schema))

    def marked(completion: Completion) -> Completion:
        if completion.finish_reason == "length":
            return completion
        try:
            validator.validate(json.loads(completion.text))
        except (json.JSONDecodeError, ValidationError, RecursionError):
            return replace(completion, finish_reason=INVALID)
        return completion

    return marked
