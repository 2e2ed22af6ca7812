"""Set the environment variables that libraries read at import, and forward our log records to Prefect."""

import atexit
import contextlib
import logging
import os
import shutil
import tempfile
from pathlib import Path

HEARTBEAT_SECONDS = 30
"""Interval between heartbeats of a flow run on a persistent server. deploy/automations.py marks a run as crashed after
three missed ones."""

PACKAGES = ("flows", "tasks", "curation", "storage")
"""Packages whose log records are sent to a persistent server."""

LEVEL_VARIABLE = "HEIRLOOM_LOGGING_LEVEL"

_NO_TELEMETRY = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine, for which no proxy is asked."""
_IDLE_SERVICES = ("TASK_RUN_RECORDER", "EVENT_PERSISTER", "EVENT_LOGGER", "TRIGGERS")
"""Services of a Prefect server that only its user interface and automations need."""


def configure_environment() -> None:
    """Set defaults for telemetry, logging and threads; variables that are set already keep their values.

    Call it before Prefect, tokenizers, torch or vLLM are imported.
    """
    defaults = {
        **_NO_TELEMETRY,
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        # The sentence encoder computes in this process. Its idle threads must not spin beside the worker processes.
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    _bypass_proxy_for_loopback()
    _provide_prefect_home()
    # Child processes do not import modules from the working folder, where a file can be named queue.py or prefect.py.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    if os.environ.get("PREFECT_API_URL"):
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
        os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", ",".join(PACKAGES))
        os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_SECONDS))
        forward_logs()
        return
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    # The temporary server has no user interface, and with these writers SQLite can stay locked for a minute.
    for service in _IDLE_SERVICES:
        os.environ.setdefault(f"PREFECT_SERVER_SERVICES_{service}_ENABLED", "false")


def _bypass_proxy_for_loopback() -> None:
    """Add this machine to NO_PROXY: servers of Prefect and vLLM that a command starts listen on it."""
    existing = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name for name in existing.split(",") if name.strip()]
    names += [name for name in _LOOPBACK if name not in names]
    # Libraries read one or the other, and most prefer the lower case.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)


def _provide_prefect_home() -> None:
    """Give Prefect and matplotlib a temporary folder where the home folder is absent or read-only, as in containers."""
    if "PREFECT_HOME" not in os.environ:
        with contextlib.suppress(RuntimeError):  # raised where the system knows no home of this user
            home = Path.home() / ".prefect"
            # A superuser could create a home folder that does not exist; it is not ours to create.
            existing = home if home.exists() else home.parent
            if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
                return
        temporary = tempfile.mkdtemp(prefix="heirloom-prefect-")
        os.environ["PREFECT_HOME"] = temporary
        os.environ.setdefault("MPLCONFIGDIR", f"{temporary}/matplotlib")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    # Before Prefect 3.8, these two stay in the user's home folder.
    folder = Path(os.environ["PREFECT_HOME"]).expanduser()
    os.environ.setdefault("PREFECT_MEMO_STORE_PATH", str(folder / "memo_store.toml"))
    os.environ.setdefault("PREFECT_RESULTS_LOCAL_STORAGE_PATH", str(folder / "storage"))


def forward_logs() -> None:
    """Set our loggers to INFO: Prefect attaches handlers to the extra loggers, but leaves their level at WARNING.

    A level of our own, HEIRLOOM_LOGGING_LEVEL, takes precedence.
    """
    for package in PACKAGES:
        logging.getLogger(package).setLevel(os.environ.get(LEVEL_VARIABLE, "").upper() or logging.INFO)
