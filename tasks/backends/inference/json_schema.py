"""Validate completions against their JSON schema.

Samplers constrain tokens by a grammar, which supports only a part of JSON Schema, so completions are validated again.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from tasks.backends.types import Completion

INVALID = "invalid_json"


def invalid_json_marker(schema: str) -> Callable[[Completion], Completion]:
    """Return a function that sets the finish reason of completions that violate the schema.

    Truncated completions keep the finish reason `length`, which explains the violation.
    """
    if not schema:
        return lambda completion: completion
    # Slow to import, and most recipes have no schema.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import ValidationError

    validator = Draft202012Validator(json.loads(schema))

    def mark(completion: Completion) -> Completion:
        if completion.finish_reason == "length":
            return completion
        try:
            validator.validate(json.loads(completion.text))
        except (json.JSONDecodeError, ValidationError, RecursionError):
            return replace(completion, finish_reason=INVALID)
        return completion

    return mark
