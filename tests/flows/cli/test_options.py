"""Options that are the same for every command."""

import inspect

from flows.cli.app import app
from flows.cli.options import Store


def test_every_command_with_a_store_has_the_same_option() -> None:
    without = set()
    for command in app.registered_commands:
        assert command.callback is not None
        parameters = inspect.signature(command.callback).parameters
        if "store" in parameters:
            assert parameters["store"].annotation is Store
        else:
            without.add(command.callback.__name__)
    # `curate` works on any corpus.
    assert without == {"curate"}
