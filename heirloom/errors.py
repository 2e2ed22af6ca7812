"""Errors that a user sees as one sentence; every other exception is a bug and keeps its traceback."""


class HeirloomError(ValueError):
    """A mistake in a recipe, an input or a store; the message says what was found, what was expected and what to do.

    It is a ValueError, so that pydantic reports it with the name of the field when a validator raises it.
    """
