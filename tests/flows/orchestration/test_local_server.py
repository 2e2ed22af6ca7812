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


def test_a_temporary_server_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    environment = prefect_free_environment()
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/nowhere/prefect.db"
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_DATABASE_CONNECTION_URL": nowhere}
    words = [sys.executable, "-m", "flows", "ingest", str(Path(__file__)), "--name", "own", "--store", str(tmp_path)]
    found = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "unable to open database file" in found.stderr
    assert "heirloom: The temporary Prefect server exited with code 3" in found.stderr
