"""Start a temporary Prefect server for one command if `PREFECT_API_URL` is unset, and stop it with the command."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from flows.failures import shorten_tracebacks
from heirloom.errors import HeirloomError
from storage.artifacts.provenance import redact_arguments
from tasks.backends.processes import SOURCE_ROOT

_HOST = "127.0.0.1"
_RESPONSE_SECONDS = 10


def require_server() -> str:
    """Return the address of the configured Prefect server.

    Raises:
        HeirloomError: `PREFECT_API_URL` is unset, or no server responds there.
    """
    from prefect.settings import PREFECT_API_URL

    if address := PREFECT_API_URL.value():
        _check_server(str(address))
        return str(address)
    raise HeirloomError(
        "PREFECT_API_URL is not set, and served flows need a server that outlives this command. Start one with "
        "`prefect server start` and the settings of deploy/README.md, which keep web pages and other users out, then "
        "`export PREFECT_API_URL=http://127.0.0.1:4200/api`."
    )


def answers_every_origin(address: str) -> bool:
    """Return whether a Prefect server lets pages of any web site use its API; Prefect's default is that it does."""
    import httpx

    origin = "http://another-site.invalid"
    answer = httpx.get(f"{address.rstrip('/')}/health", headers={"Origin": origin}, timeout=_RESPONSE_SECONDS)
    return answer.headers.get("Access-Control-Allow-Origin") in ("*", origin)


def configured_server_or_none() -> contextlib.AbstractContextManager[None]:
    """Use the configured Prefect server; without one, call flows in the block as plain functions.

    For commands of seconds: a temporary server would take longer to start, and its records could not be looked at.
    """
    from prefect.settings import PREFECT_API_URL

    from tasks.orchestration.prefect import without_prefect

    return prefect_server() if PREFECT_API_URL.value() else without_prefect()


@contextlib.contextmanager
def prefect_server() -> Iterator[None]:
    """Use the configured Prefect server, or start a temporary one that stops when this process ends.

    Import heavy modules inside the block: the server starts in the background and the first flow waits for it.

    Raises:
        HeirloomError: no server responds at the configured address, or the temporary server exited before the block
            was left.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    if address := PREFECT_API_URL.value():
        _check_server(str(address))
        shorten_tracebacks()
        yield
        return
    # Bind the socket first, so that early connections queue until uvicorn accepts them.
    with socket.create_server((_HOST, 0)) as listener:
        address = f"http://{_HOST}:{listener.getsockname()[1]}"
        # The client of this command and of the processes that it starts reads the secret from the environment.
        os.environ["PREFECT_API_AUTH_STRING"] = f"heirloom:{secrets.token_urlsafe(32)}"
        server = _start_server(listener, server_protection(address, os.environ["PREFECT_API_AUTH_STRING"]))
        os.environ["PREFECT_API_URL"] = f"{address}/api"
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


def server_protection(origin: str, secret: str) -> dict[str, str]:
    """Return the environment of a Prefect server that executes nothing for other users or for web pages.

    By default, a Prefect server answers pages of every origin and asks for no secret. Any page that a browser on this
    machine opens could then change a deployment so that it runs a shell command.

    Args:
        origin: scheme, host and port of the server's own user interface.
        secret: `NAME:PASSWORD`, which clients have as PREFECT_API_AUTH_STRING.
    """
    return {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origin,
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_AUTH_STRING": secret,
    }


def _check_server(address: str) -> None:
    """Check that a Prefect server responds; without this, each call of the client would be repeated for minutes.

    Raises:
        HeirloomError: there is no response.
    """
    from prefect.client.orchestration import get_client

    with get_client(httpx_settings={"timeout": _RESPONSE_SECONDS}, sync_client=True) as client:
        error = client.api_healthcheck()
    if error is not None:
        shown = redact_arguments([address])[0]
        raise HeirloomError(
            f"The Prefect server at {shown}, which PREFECT_API_URL names, does not respond: "
            f"{str(error).partition(chr(10))[0] or type(error).__name__}. Start it, or unset PREFECT_API_URL to use a "
            "temporary server."
        ) from error


def _start_server(listener: socket.socket, protection: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a server on `listener` that ends when this process does, even by SIGKILL."""
    environment = {
        **os.environ,
        **protection,
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    if "PREFECT_API_DATABASE_CONNECTION_URL" not in environment:
        environment.setdefault("PREFECT_SERVER_DATABASE_CONNECTION_URL", _database_url())
    # Reading from the pipe returns once its write end is closed, which the kernel does however this process ends.
    parent_alive, _ = os.pipe()
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r}); "
        "from flows.orchestration.server_process import serve; "
        f"serve({listener.fileno()}, {parent_alive})"
    )
    server = subprocess.Popen(  # noqa: S603  (the command line is built here)
        # A session of its own, so that Ctrl-C ends the flows first; -P, since the working folder may have a prefect.py.
        [sys.executable, "-P", "-c", program],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[listener.fileno(), parent_alive],
        start_new_session=True,
    )
    os.close(parent_alive)
    return server


def _database_url() -> str:
    """Return a database per Prefect version: a server refuses a database that a newer version has migrated.

    Raises:
        HeirloomError: the folder for it cannot be written.
    """
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True)
    if not os.access(home, os.W_OK | os.X_OK):
        raise HeirloomError(
            f"The temporary Prefect server keeps its database in {home}, which cannot be written. "
            "Set PREFECT_HOME to a folder that can be written."
        )
    return f"sqlite+aiosqlite:///{home}/heirloom-prefect-{version('prefect')}.db"
