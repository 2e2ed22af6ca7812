"""The `heirloom` command: all commands, global options, and the boundary that turns mistakes into one sentence.

Modules of commands import at the top only what declares options. Each command imports its implementation in its body,
so that help pages and usage errors do not wait for pyarrow, DuckDB, scipy or Prefect.
"""

import contextlib
import os
import sys
from typing import Annotated

import typer

from flows.cli import curate, data, query, runs, serve, store, theory
from flows.cli.help import command_group
from flows.cli.streams import BROKEN_PIPE_EXIT_CODE, OutputError, discard_output, finish_output
from flows.orchestration import signals
from flows.orchestration.environment import LEVEL_VARIABLE
from flows.orchestration.logs import FORMAT_VARIABLE, LogFormat, LogLevel, write_logs
from heirloom.escaping import visible

USAGE_EXIT_CODE = 2
_DEBUG_VARIABLE = "HEIRLOOM_DEBUG"

app = command_group(
    "Run synthetic-data loops: generate, curate, mix with human text, train, evaluate, and decide whether to continue."
)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"heirloom {version('heirloom')}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar=_DEBUG_VARIABLE, help="Show the traceback of every error.")
    ] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(envvar=LEVEL_VARIABLE, help="Write log records from this level on to standard error."),
    ] = None,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(envvar=FORMAT_VARIABLE, help="Write log records to standard error as text or as JSON lines."),
    ] = None,
    version: Annotated[  # noqa: ARG001  (its callback prints)
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    write_logs(log_level, log_format)
    # An environment variable reaches worker processes as well.
    os.environ[_DEBUG_VARIABLE] = "1" if debug else "0"


for commands in (runs, data, curate, query, store, serve):
    app.registered_commands += commands.app.registered_commands
app.add_typer(theory.app, name="theory", rich_help_panel="Theory")


def main() -> None:
    """Run a command. A mistake of the user ends with one sentence and exit code 2; a bug keeps its traceback."""
    from flows.orchestration.environment import configure_environment

    configure_environment()
    try:
        code = _run_command()
        finish_output()
    except BrokenPipeError:
        discard_output()
        sys.exit(BROKEN_PIPE_EXIT_CODE)
    except OutputError as error:
        discard_output()
        exit_with_error(f"The output of this command was not written: {error.strerror}.", 1)
    except (KeyboardInterrupt, typer.Abort) as interrupt:  # Abort: Ctrl-C or Ctrl-D at a question
        signals.exit_interrupted(interrupt, _print_error)
    except Exception as error:
        # A usage error is raised before the options are parsed, and has no traceback worth showing.
        usage_error = getattr(error, "format_message", None)
        if usage_error is not None:
            _exit_with_usage_error(usage_error())
        if os.environ.get(_DEBUG_VARIABLE, "0") != "0":
            raise
        message, code = _describe(error)
        if not message:
            raise
        exit_with_error(message, code)
    if code:
        sys.exit(code)


def _run_command() -> int:
    """Run the command of the arguments; return its exit code.

    Calling `app` would turn an interrupt and a broken pipe into an exit code, without a word.
    """
    command = typer.main.get_command(app)
    try:
        with command.make_context("heirloom", sys.argv[1:]) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def exit_with_error(sentence: str, code: int) -> None:
    """Print one sentence to standard error and exit."""
    _print_error(sentence)
    sys.exit(code)


def _print_error(sentence: str) -> None:
    is_colored = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    label = typer.style("heirloom:", fg="red", bold=True) if is_colored else "heirloom:"
    # Standard error can be closed, full, or a terminal that no longer exists.
    with contextlib.suppress(OSError):
        typer.echo(f"{label} {visible(sentence)}", err=True)


def _exit_with_usage_error(message: str) -> None:
    # Without arguments Typer prints the help page and raises an error without a message.
    if not message:
        sys.exit(0)
    sentence = message if message.endswith((".", "?")) else f"{message}."
    exit_with_error(f"{sentence} See `heirloom --help`.", USAGE_EXIT_CODE)


def _describe(error: Exception) -> tuple[str, int]:
    """Return the sentence and the exit code for an expected error; an empty sentence for a bug."""
    from flows.failures import expected_sentence
    from tasks.backends.workers.process import WorkerError

    return expected_sentence(error), 1 if isinstance(error, WorkerError) else USAGE_EXIT_CODE
