"""The SQL shell in a pseudo-terminal."""

import codecs
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.config.site import Site
from flows.terminal.query_output import print_result
from flows.terminal.sql_shell import SqlSession, is_complete, list_queries
from storage.query.named_queries import QUERIES
from storage.runs.run import Run
from tests.support.paths import ROOT


class Terminal:
    """A terminal with `heirloom sql` in it."""

    def __init__(self, store: Path, home: Path) -> None:
        self._ours, theirs = pty.openpty()
        environment = os.environ | {"HOME": str(home), "TERM": "dumb", "COLUMNS": "120"}
        command = [sys.executable, "-m", "flows", "sql", "--store", str(store)]
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            # A process that was started in the background ignores SIGINT, and its children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        os.close(theirs)
        self._shown = ""
        # A character of several bytes can arrive in two pieces.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Wait for a text after the last one that was waited for."""
        until = time.monotonic() + seconds
        while text not in self._shown:
            assert time.monotonic() < until, f"waited for {text!r}, saw {self._shown!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self._shown += self._decoder.decode(os.read(self._ours, 65536))
        self._shown = self._shown.partition(text)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(ingested: Site, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(ingested.store, tmp_path)
    yield opened
    opened.close()


@pytest.mark.processes
def test_statements_commands_and_errors_in_one_session(terminal: Terminal, tmp_path: Path) -> None:
    terminal.wait_for("heirloom> ")
    terminal.press("select count(*)\nfrom human_tr\t;\n")
    terminal.wait_for("count_star()")
    terminal.press("drop view human_train;\n")
    terminal.wait_for("The store is read-only: DROP")
    terminal.press("select nothing;\n")
    terminal.wait_for("DuckDB: Binder Error")
    terminal.press(".tables\n")
    terminal.wait_for("eval_samples")
    terminal.press(".query record_history h-none\n")
    terminal.wait_for("There is no record 'h-none'")
    terminal.press("select 'half; of\n")
    terminal.wait_for("… ")
    terminal.press("a text';\n")
    terminal.wait_for("half; of\\na text")
    terminal.wait_for("heirloom> ")
    terminal.press("\x04")
    assert terminal.process.wait(120) == 0
    history = (tmp_path / ".heirloom_history").read_text()
    assert "select count(*) from human_train" in history
    assert ".query record_history h-none" in history


@pytest.mark.processes
def test_ctrl_c_interrupts_a_statement_and_not_the_shell(terminal: Terminal) -> None:
    terminal.wait_for("heirloom> ")
    terminal.press("select count(*) from range(100000000) a, range(100000) b where hash(a.range * b.range) % 7 = 3;\n")
    time.sleep(2)
    # A terminal without a session of its own sends no signal for Ctrl-C.
    terminal.process.send_signal(2)
    terminal.wait_for("interrupted")
    terminal.press("select 40 + 2 as answer;\n")
    terminal.wait_for("42")
    terminal.press(".quit\n")
    assert terminal.process.wait(120) == 0


@pytest.mark.processes
def test_a_statement_sees_the_current_store(ingested: Site, capsys: pytest.CaptureFixture[str]) -> None:
    session = SqlSession(ingested.store, allow_files=False)
    before = session.catalog
    session.execute("select count(*) from runs", print_result)
    assert session.catalog is before
    Run(ingested.store, "new").initialize(
        {
            "description": "",
            "dataset": "letters",
            "mix": {"policy": "anchor"},
            "train": {"backend": "ngram"},
            "generate": {"sampler": "ngram"},
            "num_generations": 1,
            "seed": 0,
        },
        set(),
        {},
    )
    Run(ingested.store, "new").append("started", 0, 1, snapshot=1)
    capsys.readouterr()
    session.execute("select run from runs", print_result)
    assert "new" in capsys.readouterr().out


def test_every_named_query_is_listed_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    list_queries()
    output = capsys.readouterr().out
    assert all(name in output for name in QUERIES)
    assert "diff_runs RUN OTHER_RUN" in output


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("select 1; -- what's new", True),
        ("-- don't", True),
        ("/* it's */", True),
        ("select 1;\n/* it's\nover */  ", True),
        ('select "it\'s";', True),
        ("select 'a''b';", True),
        ("select $$it's; $$;", True),
        ("select e'\\';';", True),
        ("é select 'é'; -- é", True),
        ("select 1;;", True),
        ("select 1", False),
        ("select 1 -- ;", False),
        ("-- don't\nselect 3", False),
        ("select 'it;", False),
        ('select "it;', False),
        ("select $$it;", False),
        ("select 1; /* it;", False),
        ("/* a /* b */ ;", False),
        ("select 1; select 2", False),
    ],
)
def test_a_statement_ends_at_a_semicolon_outside_quotes_and_comments(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


@pytest.mark.processes
def test_an_apostrophe_in_a_comment_or_a_name_does_not_keep_the_shell_waiting(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.wait_for("heirloom> ")
    for line, expected in (
        ("select 40 + 1; -- what's new", "41"),
        ("-- don't\nselect 40 + 2;", "42"),
        ('select 40 + 3 as "it\'s";', "43"),
        ("/* it's */ select 40 + 4;", "44"),
        ("select 40 -- what's\n+ 5;", "45"),
    ):
        terminal.press(f"{line}\n")
        terminal.wait_for(expected, seconds=30)
        terminal.wait_for("heirloom> ", seconds=30)
    terminal.press("\x04")
    assert terminal.process.wait(120) == 0
    # The history has one line per statement, where a comment would hide the rest of the statement.
    assert "select 40  + 5;" in (tmp_path / ".heirloom_history").read_text().splitlines()
