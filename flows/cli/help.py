"""Help pages: commands grouped by panel, and one example per command.

The pages are plain text. Rich's pages take more than twice the time to print, most of it for imports.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

CommandFunction = TypeVar("CommandFunction", bound=Callable[..., None])


class ExampleCommand(TyperCommand):
    """A command whose epilog holds its examples, one a line."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401, ARG002  (Typer's classes are private)
        """Write the examples as they are, without wrapping."""
        if self.epilog:
            with formatter.section("Example" if "\n" not in self.epilog else "Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class GroupedCommands(TyperGroup):
    """A group of commands that lists them by panel, in the order of their registration."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  (Typer's classes are private)
        """Write one section per panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        width = max(map(len, self.commands))
        for name in self.list_commands(ctx):
            command = self.commands[name]
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                panels.setdefault(str(panel), []).append((name, command.get_short_help_str(limit=200)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows, col_max=width, col_spacing=2)


def command_group(text: str) -> typer.Typer:
    """Return an empty group of commands with this help text."""
    return typer.Typer(
        cls=GroupedCommands, help=text, no_args_is_help=True, add_completion=False, rich_markup_mode=None
    )


def command(
    app: typer.Typer, *, panel: str, example: str, name: str | None = None
) -> Callable[[CommandFunction], CommandFunction]:
    """Register a function as a command of `app`; its docstring is the help text.

    Args:
        app: the group of commands.
        panel: section of the help page that lists the command.
        example: command lines that are shown below its help text.
        name: name of the command; the default is the function's name with dashes.
    """
    return app.command(name, cls=ExampleCommand, rich_help_panel=panel, epilog=example)
