"""Set environment variables that libraries read at import, and forward our logs to Prefect."""

import logging
import os

from flows.orchestration.local_server import _own_database

HEARTBEAT = 30
"""Seconds between the signs of life of a watched flow run; what takes three missed ones for a death must know it."""


_PACKAGES = ("flows", "tasks", "curation", "storage")


def configure_environment() -> None:
    """Set what libraries read at import, where the user has not: no reports home, quiet logs, threads."""
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        # For the encoder, which is all the arithmetic in this process; threads that wait must not spin beside workers.
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    watched = bool(os.environ.get("PREFECT_API_URL"))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if watched else "CRITICAL")
    if not watched:
        # Nobody looks at a server that ends with the command, and with these writers SQLite can lock for a minute.
        for service in ("TASK_RUN_RECORDER", "EVENT_PERSISTER", "EVENT_LOGGER", "TRIGGERS"):
            os.environ.setdefault(f"PREFECT_SERVER_SERVICES_{service}_ENABLED", "false")
        if "PREFECT_API_DATABASE_CONNECTION_URL" not in os.environ:
            os.environ.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_URL", _own_database())
    else:
        os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", ",".join(_PACKAGES))
        os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT))
        forward_logs()


def forward_logs() -> None:
    """Let what the four rooms log reach the server; that Prefect is told their names is not enough."""
    for room in _PACKAGES:
        logging.getLogger(room).setLevel(logging.INFO)
