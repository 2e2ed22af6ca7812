"""The base class of settings: frozen, with unknown keys refused."""

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _to_pairs(value: object) -> object:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


TABLE_AS_PAIRS = BeforeValidator(_to_pairs)
"""Reads a TOML table as sorted pairs. Settings are keys of caches, so they must be hashable, and a dict is not."""
