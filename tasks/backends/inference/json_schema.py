"""Whether a completion is what its JSON schema asks for: looked at again here, whoever promised it.

A grammar holds tokens to a schema only as far as it knows the schema's words; what it lets pass is marked, never passed on as good.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from tasks.backends.types import Completion

INVALID = "invalid_json"


def invalid_json_marker(schema: str) -> Callable[[Completion], Completion]:
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
