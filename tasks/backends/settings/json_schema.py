"""Validate the JSON schema of structured output."""

import json

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from heirloom.errors import HeirloomError


def validate_json_schema(schema: str) -> str:
    """The schema, if it is one.

    Raises:
        HeirloomError: it is not JSON, or no JSON schema.
    """
    try:
        parsed = json.loads(schema)
        Draft202012Validator.check_schema(parsed)
    except json.JSONDecodeError as error:
        raise HeirloomError(f"it is not JSON: {error}") from error
    except SchemaError as error:
        raise HeirloomError(f"it is no JSON schema: {error.message}") from error
    if not isinstance(parsed, dict):
        raise HeirloomError(f"it is no JSON schema that says anything: {schema}")
    return schema
