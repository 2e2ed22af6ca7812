"""Options that mean the same for every command."""

import inspect

from flows.cli import app


def test_every_command_names_the_store_in_the_same_way() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert "store" in inspect.signature(command.callback).parameters, command.callback.__name__
