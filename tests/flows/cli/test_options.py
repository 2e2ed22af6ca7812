"""Options that mean the same for every command."""

import inspect

from flows.cli.app import app
from flows.cli.options import Store


def test_every_command_names_the_store_in_the_same_way() -> None:
    without = set()
    for command in app.registered_commands:
        assert command.callback is not None
        parameters = inspect.signature(command.callback).parameters
        if "store" in parameters:
            assert parameters["store"].annotation is Store
        else:
            without.add(command.callback.__name__)
    # One command works on any corpus, and has no store.
    assert without == {"curate"}
