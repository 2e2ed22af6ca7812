"""Load functions that a user names in a recipe."""

import importlib
from collections.abc import Callable
from typing import Any


def own_program(path: str) -> Callable[..., Any]:
    """The user's function, named as `package.module:function`.

    Raises:
        ValueError: it cannot be imported, or is no function.
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path} names no function that can be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{path} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]
