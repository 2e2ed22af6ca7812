"""Log records of a command on standard error, as text or as JSON lines: level and format are options and variables."""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum

from flows.orchestration.environment import LEVEL_VARIABLE, PACKAGES

FORMAT_VARIABLE = "HEIRLOOM_LOG_FORMAT"


class LogFormat(StrEnum):
    """How records are written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe records that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class JsonFormatter(logging.Formatter):
    """One JSON object a record: `time` (ISO 8601, UTC), `level`, `logger`, `message`, and `traceback` of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record on one line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def write_logs(level: LogLevel | None, log_format: LogFormat | None) -> None:
    """Write the records of our packages to standard error; do nothing if neither a level nor a format is chosen."""
    if level is None and log_format is None:
        return
    chosen = level or LogLevel.INFO
    # Processes of flow runs read it, see `environment.forward_logs`.
    os.environ[LEVEL_VARIABLE] = chosen.value
    handler = logging.StreamHandler(sys.stderr)
    if log_format is LogFormat.JSON:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for package in PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(chosen.value.upper())
        logger.addHandler(handler)
        logger.propagate = False
