"""The shell of `heirloom sql`: questions in SQL, one after another, about the store as it is when each is asked."""

import contextlib
import readline
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.terminal.console import console, table
from flows.terminal.query_output import print_result
from heirloom.errors import HeirloomError
from storage.query.named_queries import QUERIES, bind, description, parameters
from storage.query.sandbox import execute, open_readonly, statements
from storage.query.scan import store_state

if TYPE_CHECKING:
    import duckdb

    Take = Callable[[duckdb.DuckDBPyRelation], None]

_HISTORY_LINES = 2000
_HELP = """A question ends with ; and may run over several lines. Ctrl-C stops it, Ctrl-D leaves, Tab completes.
.tables                the views and their columns
.ask NAME [ARGUMENTS]  a named question; .ask alone lists them
.help                  this
.quit                  leave"""
_KEYWORDS = """select from where group by order having limit distinct count sum avg min max round join left using on and or not in is
null like ilike between case when then else end as with recursive union all describe summarize show explain analyze filter over
partition desc asc offset sample cast unnest values exists"""


class SqlSession:
    """A store that is being asked: its catalog is opened anew when the store has changed."""

    def __init__(self, root: Path, allow_files: bool) -> None:
        self._root, self._allow_files = root, allow_files
        self._open()

    def _open(self) -> None:
        self._state = store_state(self._root)
        self.catalog = open_readonly(self._root, self._allow_files)

    def refresh(self) -> None:
        """See what the store holds now."""
        if store_state(self._root) != self._state:
            self._open()

    def execute(self, text: str, take: "Take") -> None:
        """Ask every statement of a text; `take` takes each answer.

        Raises:
            HeirloomError: one of them is refused, or cannot be answered.
        """
        self.refresh()
        for statement in statements(self.catalog, text):
            execute(self.catalog, statement, {}, take)

    def execute_named(self, name: str, arguments: Sequence[str], take: "Take") -> None:
        """Ask a named question.

        Raises:
            HeirloomError: there is no such question, or its arguments do not fit.
        """
        self.refresh()
        given = bind(self.catalog, name, arguments)
        execute(self.catalog, QUERIES[name], given, take)

    def views(self) -> dict[str, list[str]]:
        """Every view and its columns."""
        found: dict[str, list[str]] = {}
        told = "select table_name, column_name from information_schema.columns order by table_name, ordinal_position"
        for view, column in self.catalog.execute(told).fetchall():
            found.setdefault(view, []).append(column)
        return found


def run_shell(session: SqlSession, history: Path) -> None:
    """Read questions from a person until there are no more; a mistake is told and ends nothing."""
    _prepare(session, history)
    console.print("[dim]heirloom asks; .help says how, Ctrl-D leaves[/]")
    question = ""
    while True:
        try:
            line = input("      … " if question else "heirloom> ")
        except KeyboardInterrupt:
            console.print()
            question = ""
            continue
        except EOFError:
            console.print()
            return
        question = f"{question}\n{line}" if question else line.strip()
        if question in (".quit", ".exit", "quit", "exit"):
            return
        if question and (question.startswith(".") or _complete(question)):
            _remember(question, history)
            _answer(session, question)
            question = ""


def list_queries() -> None:
    """Print every named question: what it wants and what it answers."""
    told = table("question", "what it answers")
    for name in QUERIES:
        told.add_row(_usage(name), description(name))
    console.print(told)


def _usage(name: str) -> str:
    return " ".join([name, *(one.upper() for one in parameters(name))])


def _answer(asking: SqlSession, question: str) -> None:
    try:
        if question.startswith("."):
            _run_dot_command(asking, question)
        else:
            asking.execute(question, print_result)
    except ValueError as error:
        console.print(str(error), style="red", markup=False)
    except KeyboardInterrupt:
        console.print("\nstopped")


def _run_dot_command(asking: SqlSession, command: str) -> None:
    word, *rest = command.split()
    if word == ".tables":
        asking.refresh()
        for view, columns in asking.views().items():
            console.print(f"[bold]{view}[/]  [dim]{', '.join(columns)}[/]")
    elif word == ".ask" and rest:
        asking.execute_named(rest[0], rest[1:], print_result)
    elif word == ".ask":
        list_queries()
    elif word == ".help":
        console.print(_HELP, markup=False)
    else:
        raise HeirloomError(f"there is no command {word}; .help lists them")


def _complete(question: str) -> bool:
    """Whether a question is at its end: a semicolon that is in no text."""
    return question.rstrip().endswith(";") and question.count("'") % 2 == 0


def _prepare(asking: SqlSession, history: Path) -> None:
    words = [*_KEYWORDS.split(), *QUERIES, ".help", ".tables", ".ask", ".quit"]
    for view, columns in asking.views().items():
        words += [view, *columns]
    found: list[str] = []

    def completed(begun: str, state: int) -> str | None:
        if state == 0:
            found[:] = sorted({word for word in words if word.startswith(begun.lower())})
        return found[state] if state < len(found) else None

    readline.set_completer(completed)
    readline.set_completer_delims(" \t\n,()=<>*;'\"")
    # macOS comes with another library under the same name.
    readline.parse_and_bind("bind ^I rl_complete" if "libedit" in (readline.__doc__ or "") else "tab: complete")
    readline.set_auto_history(False)
    with contextlib.suppress(OSError):
        readline.read_history_file(history)


def _remember(question: str, history: Path) -> None:
    readline.add_history(" ".join(question.split("\n")))
    readline.set_history_length(_HISTORY_LINES)
    with contextlib.suppress(OSError):
        readline.write_history_file(history)
