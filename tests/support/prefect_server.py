"""A Prefect server in a process of its own, and raw requests to it."""

import base64
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from benchmarks.operations.postgres import free_port
from tests.conftest import prefect_free_environment
from tests.support.waiting import until


@contextlib.contextmanager
def prefect_process(home: Path, settings: Mapping[str, str], port: int = 0) -> Iterator[str]:
    """The address of a server with a SQLite database in `home`; it ends with the block."""
    address = f"http://127.0.0.1:{port or (port := free_port())}"
    environment = {
        **prefect_free_environment(),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
        "DO_NOT_TRACK": "1",
        **settings,
    }
    with (home / "server.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            cwd=home,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        until(lambda: _is_ready(address, process, home / "server.log"), "an answer of the server")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


def ask(address: str, method: str, path: str, body: object = None, *, secret: str = "") -> Any:
    """The JSON answer of a server that may ask for a secret and for a CSRF token."""
    headers = {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"} if secret else {}
    with httpx.Client(base_url=f"{address}/api", headers=headers, timeout=120) as client:
        name = uuid.uuid4().hex
        token = client.get("/csrf-token", params={"client": name})
        if token.status_code == httpx.codes.OK:
            client.headers.update({"Prefect-Csrf-Client": name, "Prefect-Csrf-Token": token.json()["token"]})
        answer = client.request(method, path, json=body)
    return answer.json() if answer.content else answer.status_code


def _is_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-2000:]
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{address}/api/ready", timeout=10).status_code == httpx.codes.OK
    return False
