"""Environment defaults, and a temporary server that cannot start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.orchestration.environment import HEARTBEAT_SECONDS
from tests.conftest import prefect_free_environment
from tests.support.paths import ROOT

pytestmark = pytest.mark.processes

_SHOW = (
    "import os; from flows.orchestration.environment import configure_environment; configure_environment(); "
    "print(os.environ.get({name!r}))"
)


def after(name: str, **given: str) -> str:
    """The variable as a child process has it after the defaults are set."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT", "OMP"))} | given
    found = subprocess.run(
        [sys.executable, "-c", _SHOW.format(name=name)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


def test_telemetry_is_disabled() -> None:
    assert after("PREFECT_SERVER_ANALYTICS_ENABLED") == "false"
    assert after("DO_NOT_TRACK") == "1"
    assert after("VLLM_NO_USAGE_STATS") == "1"


def test_variables_of_the_user_are_kept() -> None:
    assert after("PREFECT_LOGGING_LEVEL", PREFECT_LOGGING_LEVEL="DEBUG") == "DEBUG"
    assert after("OMP_NUM_THREADS", OMP_NUM_THREADS="7") == "7"


def test_a_persistent_server_keeps_its_services_and_receives_our_logs() -> None:
    address = {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
    assert after("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED", **address) == "None"
    assert after("PREFECT_LOGGING_EXTRA_LOGGERS", **address) == "flows,tasks,curation,storage"
    assert after("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED") == "false"


def test_heartbeats_are_sent_to_a_persistent_server_only() -> None:
    assert after("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", PREFECT_API_URL="http://127.0.0.1:1/api") == str(
        HEARTBEAT_SECONDS
    )
    assert after("PREFECT_FLOWS_HEARTBEAT_FREQUENCY") == "None"


def test_no_proxy_is_asked_for_this_machine_and_the_user_s_exceptions_stay() -> None:
    assert after("NO_PROXY").split(",") == ["127.0.0.1", "localhost", "::1"]
    for name in ("NO_PROXY", "no_proxy"):
        assert after(name, NO_PROXY="", no_proxy="intern.example,localhost").split(",") == [
            *("intern.example", "localhost", "127.0.0.1", "::1")
        ]


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_client_for_this_machine_opens_whatever_the_proxy(proxy: str) -> None:
    names = ("http_proxy", "https_proxy", "ALL_PROXY")
    program = (
        "import threading, http.server, httpx; from flows.orchestration.environment import configure_environment\n"
        "configure_environment()\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=server.handle_request, daemon=True).start()\n"
        "print(httpx.head(f'http://127.0.0.1:{server.server_port}/').status_code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **dict.fromkeys(names, proxy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "200\n", found.stderr


def test_a_dead_server_is_one_sentence(tmp_path: Path) -> None:
    environment = prefect_free_environment() | {"PREFECT_API_URL": "http://user:secret@127.0.0.1:9/api"}
    words = [sys.executable, "-m", "flows", "ingest", str(Path(__file__)), "--name", "own", "--store", str(tmp_path)]
    found = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("heirloom: The Prefect server at http://***@127.0.0.1:9/api")
    assert found.stderr.count("\n") == 1
    assert "Connection refused" in found.stderr


def test_modules_of_the_working_folder_do_not_stand_in_for_others(tmp_path: Path) -> None:
    for name in ("prefect", "queue", "random", "types", "tasks", "uvicorn"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the working folder')")
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("raise SystemExit('imported from the working folder')")
    (tmp_path / "text.jsonl").write_text("\n".join(f'{{"text": "Line {row} of a text."}}' for row in range(80)))
    environment = prefect_free_environment() | {"PREFECT_HOME": os.environ["PREFECT_HOME"], "PYTHONPATH": str(ROOT)}
    program = "import sys; sys.argv[0] = 'heirloom'; from flows.__main__ import main; main()"
    small = ["--set", "dataset=own", "--set", "num_generations=0", "--set", "evaluate.num_samples=10"]
    for arguments in (["ingest", "text.jsonl", "--name", "own"], ["run", "ngram", *small]):
        words = [sys.executable, "-P", "-c", program, *arguments]
        found = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("home", ["/proc/1/nowhere", "/nonexistent/home"])
def test_without_a_home_that_can_be_written_prefect_gets_a_temporary_one(home: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_HOME"}
    program = (
        "import os; from flows.orchestration.environment import configure_environment; configure_environment()\n"
        "path = os.environ['PREFECT_HOME']; print(path, os.access(path, os.W_OK))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment | {"HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    path, is_writable = found.stdout.split()
    assert "heirloom-prefect-" in path
    assert is_writable == "True"
    assert not Path(path).exists(), "the folder is left behind"
    assert not Path(home).exists(), "a superuser created the home folder"


def test_a_prefect_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    environment = prefect_free_environment() | {"PREFECT_HOME": str(tmp_path / "file")}
    words = [sys.executable, "-m", "flows", "demo", "--quick", "--store", str(tmp_path / "store")]
    found = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "Set PREFECT_HOME to a folder that can be written." in found.stderr


def test_a_temporary_server_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    environment = prefect_free_environment()
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/nowhere/prefect.db"
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_DATABASE_CONNECTION_URL": nowhere}
    words = [sys.executable, "-m", "flows", "demo", "--quick", "--store", str(tmp_path / "store")]
    found = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "unable to open database file" in found.stderr
    assert "heirloom: The temporary Prefect server exited with code 3" in found.stderr


def test_ingest_starts_no_server(tmp_path: Path) -> None:
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/nowhere/prefect.db"
    environment = prefect_free_environment() | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": nowhere}
    (tmp_path / "text.jsonl").write_text("\n".join(f'{{"text": "Line {row} of a text."}}' for row in range(80)))
    words = [sys.executable, "-m", "flows", "ingest", str(tmp_path / "text.jsonl"), "--name", "own"]
    found = subprocess.run(
        [*words, "--store", str(tmp_path / "store")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
