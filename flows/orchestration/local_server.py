"""What a command finds around it: defaults in the environment, and a Prefect server where none is set.

The one place that reads and writes the environment. Called before any heavy library is imported.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from heirloom.errors import HeirloomError

_HERE = "127.0.0.1"


def require_server() -> str:
    """Address of the Prefect server that is set.

    Raises:
        HeirloomError: none is.
    """
    from prefect.settings import PREFECT_API_URL

    if address := PREFECT_API_URL.value():
        return str(address)
    raise HeirloomError(
        "no Prefect server is set, and what is served must outlive this command; start one with: prefect server start, "
        "then say where: export PREFECT_API_URL=http://127.0.0.1:4200/api"
    )


def _own_database() -> str:
    """One for each Prefect: a server refuses the database that a newer one has seen, as another environment may hold."""
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    return f"sqlite+aiosqlite:///{home}/heirloom-prefect-{version('prefect')}.db"


@contextmanager
def prefect_server() -> Iterator[None]:
    """The Prefect server that is set, or one that begins here and ends with this process, however that ends.

    What is heavy is best imported within the block: beginning takes a server as long, and the first flow waits for it.

    Raises:
        OSError: the server ended before the block did.
    """
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    # Who knocks before the server can answer waits at the door.
    with socket.create_server((_HERE, 0)) as door:
        server = _start_server(door)
        os.environ["PREFECT_API_URL"] = f"http://{_HERE}:{door.getsockname()[1]}/api"
    os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", "120")
    refresh_global_settings_context()
    from tasks.orchestration.prefect import ephemeral_server

    try:
        # Nobody watches this server, and each flow would wait a second for its last beat.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), ephemeral_server():
            yield
    except Exception as error:
        if (code := server.poll()) is None:
            raise
        raise OSError(f"the Prefect server of this command ended with exit code {code}; it says why above") from error


def _start_server(listener: socket.socket) -> subprocess.Popen[bytes]:
    """A server that answers at the door some seconds later, and its watch."""
    serve = (
        "import socket, uvicorn; uvicorn.Server(uvicorn.Config('prefect.server.api.server:create_app', factory=True, "
        f"log_level='error')).run([socket.socket(fileno={listener.fileno()})])"
    )
    ours = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    server = subprocess.Popen(  # noqa: S603  (our own words)
        [sys.executable, "-c", serve], env=os.environ | ours, stdout=subprocess.DEVNULL, pass_fds=[listener.fileno()]
    )
    # A killed command ends nothing that it began; this shell reads until the command is gone, and with it the other end.
    # Who is told to end while beginning does so once begun; killed then, it could leave half a database.
    last = (
        f"kill {server.pid}; for _ in $(seq 60); do kill -0 {server.pid} || exit; sleep 1; done; kill -9 {server.pid}"
    )
    read, _ = os.pipe()
    null = subprocess.DEVNULL
    words = ["sh", "-c", f"read _; {last}"]
    subprocess.Popen(words, stdin=read, stdout=null, stderr=null, start_new_session=True)  # noqa: S603  (a number)
    os.close(read)
    return server
