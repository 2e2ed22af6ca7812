"""Run the command line on a pseudo-terminal, press keys there, and find the processes that it leaves behind."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.waiting import until

_MARK = "HEIRLOOM_TEST_TERMINAL"


@dataclass
class TerminalCommand:
    """A command that leads the session of a terminal of its own, as in an interactive shell."""

    words: list[str]
    environment: Mapping[str, str]
    folder: Path = ROOT
    output: str = ""
    _mark: str = field(default_factory=lambda: f"{os.getpid()}-{time.monotonic_ns()}")

    def __post_init__(self) -> None:
        self._screen, self._theirs = pty.openpty()
        environment = {**self.environment, _MARK: self._mark, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLING_TERMINAL, sys.executable, "-m", "flows", *self.words],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env=environment,
            cwd=self.folder,
            start_new_session=True,
        )

    def read(self, seconds: float) -> None:
        """Add what the command prints within this time to `output`."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._screen], [], [], left)[0]:
                return
            try:
                self.output += os.read(self._screen, 65536).decode(errors="replace")
            except OSError:  # the terminal of a process that has ended
                time.sleep(min(0.05, left))
                return

    def wait_for(self, text: str, seconds: float = 240) -> None:
        """Wait until the output contains a text."""
        end = time.monotonic() + seconds
        while text not in self.output:
            assert self.process.poll() is None, self.output[-2000:]
            assert time.monotonic() < end, f"{text!r} did not appear; the last output is:\n{self.output[-2000:]}"
            self.read(0.2)

    def press(self, keys: str) -> None:
        """Type keys; `\\x03` is Ctrl-C."""
        os.write(self._screen, keys.encode())

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self._theirs)
        os.close(self._screen)

    def end(self, seconds: float) -> tuple[int, float]:
        """Wait for the end; return the exit code as a shell reports it, and the seconds that it took."""
        started = time.monotonic()
        while self.process.poll() is None and time.monotonic() - started < seconds:
            self.read(0.05)
        taken = time.monotonic() - started
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"still running {seconds} s after the signal; output:\n{self.output[-2000:]}")
        self.read(0.1)
        code = self.process.returncode
        return (128 - code if code < 0 else code), taken

    def left_behind(self) -> dict[int, str]:
        """Return the command lines of the processes that descend from the command and still exist."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{_MARK}={self._mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                    found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")[:200]
        return found

    def wait_until_alone(self) -> float:
        """Wait until no process is left; return the seconds that it took."""
        started = time.monotonic()
        until(lambda: not self.left_behind(), f"the end of {self.left_behind()}")
        return time.monotonic() - started


_CONTROLLING_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Make standard input the terminal that controls this session, then become the command."""
