"""Validate the JSON schema of structured output."""

import json

from heirloom.errors import HeirloomError


def validate_json_schema(schema: str) -> str:
    """Return the schema unchanged if it is valid.

    Raises:
        HeirloomError: the text is not JSON, or not a JSON schema.
    """
    # Slow to import, and most recipes have no schema.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        parsed = json.loads(schema)
        Draft202012Validator.check_schema(parsed)
    except json.JSONDecodeError as error:
        raise HeirloomError(f"json_schema is not valid JSON: {error}") from error
    except SchemaError as error:
        raise HeirloomError(f"json_schema is not a valid JSON schema: {error.message}") from error
    if not isinstance(parsed, dict):
        raise HeirloomError(f"json_schema must be a JSON object, not {schema}")
    return schema
