"""The guard of `pytest --fast` refuses torch, processes and servers, and nothing outside of a guarded block."""

import subprocess
import sys

import pytest

from tests.support.paths import ROOT

_PROGRAM = """
import sys
import pytest
from tests.support import fast

fast.install()
with fast.guarded():
    try:
        exec(sys.argv[1])
    except pytest.fail.Exception as error:
        print(error)
    attempts = fast.attempts()
print(len(attempts), len(fast.attempts()))
"""


def _guarded(code: str) -> list[str]:
    command = [sys.executable, "-c", _PROGRAM, code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("import torch", "a fast test imports: 'torch'"),
        ("import subprocess; subprocess.run(['true'])", "a fast test starts a process: "),
        ("import os; os.system('true')", "a fast test starts a process: "),
        ("import os; os.fork()", "a fast test starts a process: "),
        ("import multiprocessing as m; m.get_context('spawn').Process().start()", "a fast test starts a process: "),
        ("import socket; socket.create_server(('127.0.0.1', 0))", "a fast test listens on a socket: "),
    ],
)
def test_the_guard_of_fast_tests_refuses_torch_processes_and_servers(code: str, refusal: str) -> None:
    error, counts = _guarded(code)
    assert error.startswith(refusal)
    assert counts == "1 0"


@pytest.mark.processes
def test_an_attempt_of_a_thread_is_recorded() -> None:
    code = "import os, threading; t = threading.Thread(target=os.system, args=('true',)); t.start(); t.join()"
    assert _guarded(code) == ["1 0"]


@pytest.mark.processes
def test_the_guard_lets_other_code_pass() -> None:
    assert _guarded("import json, pathlib; json.dumps(str(pathlib.Path.cwd()))") == ["0 0"]
