"""The shell as a person meets it, at a terminal of its own."""

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
from flows.terminal.sql_shell import SqlSession, list_queries
from storage.query.named_queries import QUERIES
from storage.runs.run import Run
from tests.support.paths import ROOT


class Terminal:
    """A terminal with `heirloom sql` in it."""

    def __init__(self, store: Path, home: Path) -> None:
        self._ours, theirs = pty.openpty()
        surroundings = os.environ | {"HOME": str(home), "TERM": "dumb", "COLUMNS": "120"}
        command = [sys.executable, "-m", "flows", "sql", "--store", str(store)]
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env=surroundings,
            start_new_session=True,
            # Who was begun in the background ignores Ctrl-C, and would pass that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        os.close(theirs)
        self._shown = ""
        # A sign of several bytes can come in two pieces.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def say(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def hears(self, sentence: str, seconds: float = 120) -> None:
        """Wait for a sentence after the last one that was heard."""
        until = time.monotonic() + seconds
        while sentence not in self._shown:
            assert time.monotonic() < until, f"waited for {sentence!r}, saw {self._shown!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                self._shown += self._decoder.decode(os.read(self._ours, 65536))
        self._shown = self._shown.partition(sentence)[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(ingested: Site, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(ingested.store, tmp_path)
    yield opened
    opened.close()


def test_a_conversation(terminal: Terminal, tmp_path: Path) -> None:
    terminal.hears("heirloom> ")
    terminal.say("select count(*)\nfrom human_tr\t;\n")
    terminal.hears("count_star()")
    terminal.say("drop view human_train;\n")
    terminal.hears("The store is read-only: DROP")
    terminal.say("select nothing;\n")
    terminal.hears("DuckDB: Binder Error")
    terminal.say(".tables\n")
    terminal.hears("eval_samples")
    terminal.say(".ask record_history nobody\n")
    terminal.hears("There is no record 'nobody'")
    terminal.say("select 'half; of\n")
    terminal.hears("… ")
    terminal.say("a text';\n")
    terminal.hears("half; of\\na text")
    terminal.hears("heirloom> ")
    terminal.say("\x04")
    assert terminal.process.wait(120) == 0
    history = (tmp_path / ".heirloom_history").read_text()
    assert "select count(*) from human_train" in history
    assert ".ask record_history nobody" in history


def test_ctrl_c_stops_a_question_and_not_the_shell(terminal: Terminal) -> None:
    terminal.hears("heirloom> ")
    terminal.say("select count(*) from range(100000000) a, range(100000) b where hash(a.range * b.range) % 7 = 3;\n")
    time.sleep(2)
    # A terminal without a session of its own sends no signal; the key press is what it stands for.
    terminal.process.send_signal(2)
    terminal.hears("stopped")
    terminal.say("select 40 + 2 as answer;\n")
    terminal.hears("42")
    terminal.say(".quit\n")
    assert terminal.process.wait(120) == 0


def test_a_question_is_about_the_store_as_it_is_when_it_is_asked(
    ingested: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    asking = SqlSession(ingested.store, allow_files=False)
    before = asking.catalog
    asking.execute("select count(*) from runs", print_result)
    assert asking.catalog is before
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
    asking.execute("select run from runs", print_result)
    assert "new" in capsys.readouterr().out


def test_every_question_is_listed_with_what_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    list_queries()
    said = capsys.readouterr().out
    assert all(name in said for name in QUERIES)
    assert "diff_runs RUN OTHER_RUN" in said
