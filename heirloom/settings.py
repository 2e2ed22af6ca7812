"""The base class of settings: frozen, with unknown keys refused."""

import json
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from heirloom.errors import HeirloomError


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def first_mistake(error: ValidationError) -> str:
    """Return the first thing that pydantic found wrong: its place, and what is expected there."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def has_credentials(url: str) -> bool:
    """Return whether a URL has a part that can hold a key: user, password, query or fragment."""
    parts = urlsplit(url)
    return "@" in parts.netloc or bool(parts.query or parts.fragment)


def _to_json(value: object) -> object:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _require_table(value: str) -> str:
    try:
        is_table = not value or isinstance(json.loads(value), dict)
    except ValueError:
        is_table = False
    if not is_table:
        raise HeirloomError("expected a table of names and values")
    return value


def _to_pairs(value: object) -> object:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


TABLE_AS_PAIRS = BeforeValidator(_to_pairs)
"""Reads a TOML table as sorted pairs. Settings are keys of caches, so they must be hashable, and a dict is not."""

TABLE_AS_JSON = (BeforeValidator(_to_json), AfterValidator(_require_table))
"""Reads a TOML table as the text of a JSON object, for tables whose values can be lists or tables themselves."""
