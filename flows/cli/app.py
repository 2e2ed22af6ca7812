"""The command line, and the commands that make something: a command has the name of its flow.

A mistake of the user's ends with one sentence and exit code 2. `sql` and `plan` do not import Prefect.
"""

import sys

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from flows.cli import curate, data, query, runs, serve, store, theory
from flows.cli.environment import configure_environment
from flows.config.loading import format_validation_error
from heirloom.errors import HeirloomError
from tasks.backends.workers.process import WorkerError

app = typer.Typer(
    help="Synthetic-data loops that survive their own output.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)


def main() -> None:
    """Run a command; turn the user's mistakes into one sentence."""
    configure_environment()
    try:
        # What a command leaves with by typer.Exit is answered here, not raised.
        if code := app(standalone_mode=False):
            sys.exit(code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        exit_with_error("interrupted; the same command goes on from here", 130)
    except ValidationError as error:
        exit_with_error(format_validation_error(error), 2)
    except HeirloomError as error:
        exit_with_error(str(error), 2)
    except OSError as error:
        exit_with_error(f"{error.strerror or error}: {error.filename}" if error.filename else str(error), 2)
    except WorkerError as error:
        exit_with_error(str(error), 1)
    except Exception as error:
        # What Typer finds wrong with the words of a command explains itself.
        explained = getattr(error, "format_message", None)
        if explained is None:
            raise
        if said := explained():
            exit_with_error(f"{said.rstrip('.')}; see heirloom --help", 2)
        sys.exit(0)


for commands in (runs, data, curate, query, store, serve):
    app.registered_commands += commands.app.registered_commands
app.add_typer(theory.app, name="theory")


def exit_with_error(sentence: str, code: int) -> None:
    """Print one sentence to standard error and exit."""
    Console(stderr=True, highlight=False).print(f"[bold red]heirloom:[/] {escape(sentence)}", soft_wrap=True)
    sys.exit(code)
