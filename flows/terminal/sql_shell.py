"""The interactive shell of `heirloom sql`. Each statement sees the store as it is at that moment."""

import contextlib
import readline
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.orchestration.signals import own_interrupts
from flows.terminal.console import console, table
from flows.terminal.query_output import print_result
from heirloom.errors import HeirloomError, did_you_mean
from storage.query.named_queries import QUERIES, bind, description, parameters
from storage.query.sandbox import QueryLimits, execute, open_readonly, statements
from storage.query.scan import store_state

if TYPE_CHECKING:
    import duckdb

    ResultWriter = Callable[[duckdb.DuckDBPyRelation], None]

_HISTORY_LINES = 2000
_HELP = """A statement ends with ; and may span several lines. Ctrl-C interrupts it, Ctrl-D exits, Tab completes.
.tables                  list the views and their columns
.query NAME [ARGUMENTS]  run a named query; .query alone lists them
.help                    show this text
.quit                    exit"""
_COMMANDS = (".tables", ".query", ".help", ".quit")
_KEYWORDS = """select from where group by order having limit distinct count sum avg min max round join left using
on and or not in is null like ilike between case when then else end as with recursive union all describe summarize
show explain analyze filter over
partition desc asc offset sample cast unnest values exists"""


class SqlSession:
    """A read-only connection to a store; the catalog is reopened when the store has changed."""

    def __init__(self, root: Path, allow_files: bool, limits: QueryLimits = QueryLimits()) -> None:  # noqa: B008  (frozen)
        """Open the store.

        Args:
            root: folder of the store.
            allow_files: whether statements may read files outside the store.
            limits: what one statement may use.
        """
        self._root, self._allow_files, self._limits = root, allow_files, limits
        self._open()

    def _open(self) -> None:
        self._state = store_state(self._root)
        self.catalog = open_readonly(self._root, self._allow_files, self._limits)

    def refresh(self) -> None:
        """Reopen the catalog if the store has changed."""
        if store_state(self._root) != self._state:
            self._open()

    def execute(self, text: str, write: "ResultWriter") -> None:
        """Execute every statement of a text, and write each result.

        Raises:
            HeirloomError: a statement is refused, or fails.
        """
        self.refresh()
        for statement in statements(self.catalog, text):
            execute(self.catalog, statement, {}, write, self._limits.seconds)

    def execute_named(self, name: str, arguments: Sequence[str], write: "ResultWriter") -> None:
        """Execute a named query, and write its result.

        Raises:
            HeirloomError: there is no such query, or its arguments do not match.
        """
        self.refresh()
        execute(self.catalog, QUERIES[name], bind(self.catalog, name, arguments), write, self._limits.seconds)

    def views(self) -> dict[str, list[str]]:
        """Return the columns of every view."""
        views: dict[str, list[str]] = {}
        rows = self.catalog.execute(
            "select table_name, column_name from information_schema.columns order by table_name, ordinal_position"
        )
        for view, column in rows.fetchall():
            views.setdefault(view, []).append(column)
        return views


def run_shell(session: SqlSession, history: Path) -> None:
    """Read and execute statements until the user exits; an error is printed and the shell continues.

    Args:
        session: the store.
        history: file that keeps the statements between sessions.
    """
    with own_interrupts():
        _read_statements(session, history)


def _read_statements(session: SqlSession, history: Path) -> None:
    _set_up_readline(session, history)
    console.print("[dim]SQL on the store, read-only. .help shows the commands, Ctrl-D exits.[/]")
    statement = ""
    while True:
        try:
            line = input("      … " if statement else "heirloom> ")
        except KeyboardInterrupt:
            console.print()
            statement = ""
            continue
        except EOFError:
            console.print()
            return
        # A terminal may send bytes that are no UTF-8.
        line = line.encode(errors="replace").decode()
        statement = f"{statement}\n{line}" if statement else line.strip()
        if statement in (".quit", ".exit", "quit", "exit"):
            return
        if statement and (statement.startswith(".") or is_complete(statement)):
            if statement.startswith(".") or _has_sql(statement):
                _add_to_history(statement, history)
                _execute(session, statement)
            statement = ""


def list_queries() -> None:
    """Print every named query with its parameters and its description."""
    queries = table("query", "description")
    for name in QUERIES:
        queries.add_row(_usage(name), description(name))
    console.print(queries)


def _usage(name: str) -> str:
    return " ".join([name, *(parameter.upper() for parameter in parameters(name))])


def _execute(session: SqlSession, statement: str) -> None:
    try:
        if statement.startswith("."):
            _run_dot_command(session, statement)
        else:
            session.execute(statement, print_result)
    except HeirloomError as error:
        console.print(str(error), style="red", markup=False)
    except KeyboardInterrupt:
        console.print("\ninterrupted")


def _run_dot_command(session: SqlSession, line: str) -> None:
    command, *arguments = line.split()
    if command == ".tables":
        session.refresh()
        for view, columns in session.views().items():
            console.print(f"[bold]{view}[/]  [dim]{', '.join(columns)}[/]")
    elif command == ".query" and arguments:
        session.execute_named(arguments[0], arguments[1:], print_result)
    elif command == ".query":
        list_queries()
    elif command == ".help":
        console.print(_HELP, markup=False)
    else:
        raise HeirloomError(f"Unknown command `{command}`.{did_you_mean(command, _COMMANDS)} .help shows all commands.")


def is_complete(text: str) -> bool:
    """Whether a text ends with a semicolon, apart from comments, or has nothing but comments."""
    tokens = _tokens(text)
    # A quote, a dollar quote or a comment that is still open contains the token that is appended here.
    is_open = _tokens(f"{text}\n;")[-1][0] != len(text.encode()) + 1
    sql = [start for start, is_comment in tokens if not is_comment]
    return not is_open and (not sql or text.encode()[sql[-1] :].startswith(b";"))


def _has_sql(text: str) -> bool:
    return not all(is_comment for _, is_comment in _tokens(text))


def _tokens(text: str) -> list[tuple[int, bool]]:
    """Return the start of every token, in bytes, and whether it is a comment."""
    import duckdb

    return [(start, kind == duckdb.token_type.comment) for start, kind in duckdb.tokenize(text)]


def _on_one_line(statement: str) -> str:
    """Return a statement without line comments and line breaks, as the history file has one line per statement."""
    encoded = statement.encode()
    for start, is_comment in reversed(_tokens(statement)):
        if is_comment and encoded.startswith(b"--", start):
            _, line_break, rest = encoded[start:].partition(b"\n")
            encoded = encoded[:start] + line_break + rest
    return " ".join(encoded.decode().split("\n")).strip()


def _set_up_readline(session: SqlSession, history: Path) -> None:
    words = [*_KEYWORDS.split(), *QUERIES, *_COMMANDS]
    for view, columns in session.views().items():
        words += [view, *columns]
    matches: list[str] = []

    def complete(prefix: str, state: int) -> str | None:
        if state == 0:
            matches[:] = sorted({word for word in words if word.startswith(prefix.lower())})
        return matches[state] if state < len(matches) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n,()=<>*;'\"")
    # Python on macOS links libedit under the name of readline, with another syntax.
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
    readline.set_auto_history(False)
    with contextlib.suppress(OSError):
        readline.read_history_file(history)


def _add_to_history(statement: str, history: Path) -> None:
    readline.add_history(statement if statement.startswith(".") else _on_one_line(statement))
    readline.set_history_length(_HISTORY_LINES)
    with contextlib.suppress(OSError):
        readline.write_history_file(history)
