"""The process of a temporary Prefect server, which ends when the command that started it has ended."""

import os
import socket
import sys
import threading

_STARTUP_SECONDS = 600
_SHUTDOWN_SECONDS = 2


class _Lifetime:
    """Ends the server once the pipe to its parent closes."""

    def __init__(self, parent_alive: int) -> None:
        self._parent_alive = parent_alive
        self._serving = threading.Event()
        self.parent_ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def begin_serving(self) -> None:
        """Mark the time from which the database is being used; exit if the parent has ended before."""
        self._serving.set()
        if self.parent_ended.is_set():
            sys.exit(0)

    def _watch(self) -> None:
        os.read(self._parent_alive, 1)
        self.parent_ended.set()
        if not self._serving.is_set():
            os._exit(0)


def serve(listener: int, parent_alive: int) -> None:
    """Serve Prefect's API until the parent process has ended.

    Args:
        listener: file descriptor of a socket that listens.
        parent_alive: file descriptor of the read end of a pipe whose write end the parent holds.
    """
    lifetime = _Lifetime(parent_alive)
    import uvicorn

    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error")
    config.load()
    server = uvicorn.Server(config)

    def stop() -> None:
        lifetime.parent_ended.wait()
        server.should_exit = True
        # Startup migrates the database, and a migration that is cut off leaves half a SQLite database.
        deadline = threading.Event()
        for _ in range(_STARTUP_SECONDS * 10):
            if server.started:
                break
            deadline.wait(0.1)
        deadline.wait(_SHUTDOWN_SECONDS)
        os._exit(0)

    threading.Thread(target=stop, daemon=True).start()
    lifetime.begin_serving()
    server.run([socket.socket(fileno=listener)])
    os._exit(0)  # tearing down the interpreter takes seconds on a busy machine
