"""Load functions that a user names in a recipe."""

import importlib
from collections.abc import Callable
from typing import Any

from heirloom.errors import HeirloomError


def load_user_function(path: str) -> Callable[..., Any]:
    """The user's function, named as `package.module:function`.

    Raises:
        HeirloomError: it cannot be imported, or is no function.
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise HeirloomError(f"{path} names no function that can be imported: {error}") from error
    if not callable(found):
        raise HeirloomError(f"{path} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]
