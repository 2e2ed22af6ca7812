"""Defaults in the environment: set where the user has set nothing, and never over what he has."""

import os
import subprocess
import sys
from pathlib import Path

from flows.cli.environment import HEARTBEAT
from tests.conftest import prefect_free_environment
from tests.support.paths import ROOT

_SHOW = "import os; from flows.cli.environment import configure_environment; configure_environment(); print(os.environ.get({name!r}))"


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


def test_nothing_is_reported_home() -> None:
    assert after("PREFECT_SERVER_ANALYTICS_ENABLED") == "false"
    assert after("DO_NOT_TRACK") == "1"
    assert after("VLLM_NO_USAGE_STATS") == "1"


def test_what_the_user_has_set_stays() -> None:
    assert after("PREFECT_LOGGING_LEVEL", PREFECT_LOGGING_LEVEL="DEBUG") == "DEBUG"
    assert after("OMP_NUM_THREADS", OMP_NUM_THREADS="7") == "7"


def test_a_server_that_is_set_keeps_its_services_and_hears_our_logs() -> None:
    address = {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
    assert after("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED", **address) == "None"
    assert after("PREFECT_LOGGING_EXTRA_LOGGERS", **address) == "flows,tasks,curation,storage"
    assert after("PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED") == "false"


def test_a_watched_run_shows_signs_of_life_as_often_as_the_automation_expects() -> None:
    assert after("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", PREFECT_API_URL="http://127.0.0.1:1/api") == str(HEARTBEAT)
    assert after("PREFECT_FLOWS_HEARTBEAT_FREQUENCY") == "None"


def test_a_server_that_cannot_begin_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Not a wait for one that will never answer."""
    environment = prefect_free_environment()
    nowhere = f"sqlite+aiosqlite:///{tmp_path}/nowhere/prefect.db"
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_DATABASE_CONNECTION_URL": nowhere}
    words = [sys.executable, "-m", "flows", "ingest", str(Path(__file__)), "--name", "own", "--store", str(tmp_path)]
    found = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "unable to open database file" in found.stderr
    assert "heirloom: the Prefect server of this command ended with exit code 3" in found.stderr
