import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.backends import Resources, Sampling
from tasks.backends.inference.vllm_server import ModelServer, start
from tasks.backends.models.adapters import adapter_base_path
from tests.support.waiting import until
from tests.tasks.conftest import processes_with

_FAMILY = """
import subprocess, sys, time
program = "import time; print('ready', flush=True); time.sleep(100)"
child = subprocess.Popen([sys.executable, "-c", program, sys.argv[1]])
time.sleep(100)
"""


def _family(mark: str) -> ModelServer:
    """A process with a child of its own, as a server has an engine; the child reports itself that it is ready."""
    words = [sys.executable, "-c", _FAMILY, mark]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    return ModelServer("http://127.0.0.1:9", "a model", process)


@pytest.mark.processes
def test_closing_ends_the_server_and_what_it_started(tmp_path: Path) -> None:
    server = _family(str(tmp_path))
    assert len(processes_with(str(tmp_path))) == 2
    assert server.exit_reason() == ""
    server.close()
    until(lambda: not processes_with(str(tmp_path)), "the end of all that it started")
    server.close()


@pytest.mark.processes
def test_a_server_that_was_killed_alone_leaves_no_engine_behind(tmp_path: Path) -> None:
    server = _family(str(tmp_path))
    os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait()
    assert len(processes_with(str(tmp_path))) == 1
    assert server.exit_reason() == "The vLLM server for a model exited with code -9."
    until(lambda: not processes_with(str(tmp_path)), "the end of all that it started")


@pytest.mark.processes
def test_a_server_that_cannot_load_its_model_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"exited with code 1\. It had not started yet|needs vLLM|has no hidden_size"):
        start(tmp_path, Sampling(), Resources())
    until(lambda: not processes_with(str(tmp_path)), "the end of all that it started")


def test_the_base_of_an_adapter_is_read_from_its_config(tmp_path: Path) -> None:
    assert adapter_base_path(tmp_path) is None
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/models/base", "r": 8}')
    assert adapter_base_path(tmp_path) == "/models/base"
