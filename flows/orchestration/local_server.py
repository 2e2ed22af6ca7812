"""Start a temporary Prefect server for one command if `PREFECT_API_URL` is unset, and stop it with the command."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from heirloom.errors import HeirloomError

_HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 60


def require_server() -> str:
    """Return the address of the configured Prefect server.

    Raises:
        HeirloomError: `PREFECT_API_URL` is unset.
    """
    from prefect.settings import PREFECT_API_URL

    if address := PREFECT_API_URL.value():
        return str(address)
    raise HeirloomError(
        "PREFECT_API_URL is not set, and served flows need a server that outlives this command. Start one with "
        "`prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`."
    )


@contextmanager
def prefect_server() -> Iterator[None]:
    """Use the configured Prefect server, or start a temporary one that stops when this process ends.

    Import heavy modules inside the block: the server starts in the background and the first flow waits for it.

    Raises:
        HeirloomError: the temporary server exited before the block was left.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    # Bind the socket first, so that early connections queue until uvicorn accepts them.
    with socket.create_server((_HOST, 0)) as listener:
        server = _start_server(listener)
        os.environ["PREFECT_API_URL"] = f"http://{_HOST}:{listener.getsockname()[1]}/api"
    os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "120")
    refresh_global_settings_context()
    from tasks.orchestration.prefect import ephemeral_server

    try:
        # No automation reads heartbeats on this server, and each flow would wait a second for its last one.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), ephemeral_server():
            yield
    except Exception as error:
        if (code := server.poll()) is None:
            raise
        raise HeirloomError(
            f"The temporary Prefect server exited with code {code}; its error is printed above. "
            "Fix that, or set PREFECT_API_URL to a running server."
        ) from error


def _start_server(listener: socket.socket) -> subprocess.Popen[bytes]:
    """Start a server on `listener`, and a shell that stops the server when this process is gone, even by SIGKILL."""
    program = (
        "import socket, uvicorn; uvicorn.Server(uvicorn.Config('prefect.server.api.server:create_app', factory=True, "
        f"log_level='error')).run([socket.socket(fileno={listener.fileno()})])"
    )
    environment = os.environ | {
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    if "PREFECT_API_DATABASE_CONNECTION_URL" not in environment:
        environment.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_URL", _database_url())
    server = subprocess.Popen(  # noqa: S603  (the command line is built here)
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.DEVNULL,
        pass_fds=[listener.fileno()],
    )
    # `read` returns when the write end of the pipe closes, which the kernel does however this process ends. SIGTERM
    # comes first and SIGKILL only after a minute: killing the server mid-migration would corrupt its SQLite database.
    stop = (
        f"kill {server.pid}; for _ in $(seq {_SHUTDOWN_SECONDS}); do kill -0 {server.pid} || exit; sleep 1; done; "
        f"kill -9 {server.pid}"
    )
    read_end, _ = os.pipe()
    subprocess.Popen(  # noqa: S603  (contains only a process id)
        ["sh", "-c", f"read _; {stop}"],  # noqa: S607
        stdin=read_end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(read_end)
    return server


def _database_url() -> str:
    """Return a database per Prefect version: a server refuses a database that a newer version has migrated."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    return f"sqlite+aiosqlite:///{home}/heirloom-prefect-{version('prefect')}.db"
