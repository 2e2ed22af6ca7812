"""Shared by all child processes that backends start: the source folder, and a watch on the parent process."""

import os
import signal
import threading
from pathlib import Path

SOURCE_ROOT = Path(__file__).parents[2]
"""Folder that contains our packages. Child processes put it first on their module path."""

_POLL_INTERVAL_S = 0.5


def exit_with_parent(parent_pid: int) -> None:
    """Start a thread that kills this process and its process group as soon as the parent has exited.

    A parent that is killed cannot end its children itself. The kernel then gives them another parent.
    """

    def watch() -> None:
        while os.getppid() == parent_pid:
            threading.Event().wait(_POLL_INTERVAL_S)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
