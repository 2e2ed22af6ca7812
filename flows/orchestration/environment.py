"""Set the environment variables that libraries read at import, and forward our log records to Prefect."""

import logging
import os

HEARTBEAT_SECONDS = 30
"""Interval between heartbeats of a flow run on a persistent server. deploy/automations.py marks a run as crashed after
three missed ones."""

PACKAGES = ("flows", "tasks", "curation", "storage")
"""Packages whose log records are sent to a persistent server."""

_NO_TELEMETRY = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
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


def forward_logs() -> None:
    """Set our loggers to INFO: Prefect attaches handlers to the extra loggers, but leaves their level at WARNING."""
    for package in PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
