"""Validate the JSON schema of structured output."""

import json

from heirloom.errors import HeirloomError


def is_closed(schema: object) -> bool:
    """Return whether a schema allows no properties but the listed ones, and requires them, in every object.

    OpenAI's strict mode refuses other schemas:
    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    is_object = schema.get("type") == "object" or "properties" in schema
    properties = schema.get("properties", {})
    if is_object and (
        schema.get("additionalProperties") is not False or set(schema.get("required", ())) != {*properties}
    ):
        return False
    # Names of properties are no keywords.
    return all(
        is_closed(list(value.values()) if key in _MAPS and isinstance(value, dict) else value)
        for key, value in schema.items()
        if key not in _VALUES
    )


_MAPS = ("properties", "$defs", "definitions")
"""Keywords whose value maps names to schemas."""
_VALUES = ("const", "default", "enum", "examples")
"""Keywords whose value is no schema."""


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
