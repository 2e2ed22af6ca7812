"""The guard of `pytest --fast`.

While a test is collected or runs, it may not load torch, start a process or listen on a socket.
"""

import multiprocessing.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_EVENTS = {
    "subprocess.Popen": "starts a process",
    "os.fork": "starts a process",
    "os.forkpty": "starts a process",
    "os.posix_spawn": "starts a process",
    "os.system": "starts a process",
    "os.exec": "starts a process",
    "socket.bind": "listens on a socket",
}
_LIBRARIES = {"torch", "transformers", "vllm", "ray", "sentence_transformers", "peft", "accelerate"}
_violations: list[str] | None = None
"""What the guarded code has done; None while nothing is guarded."""


_collecting = False


@contextmanager
def guarded(collecting: bool = False) -> Iterator[None]:
    """Forbid in this process what the fast tests must do without.

    An attempt raises `pytest.fail.Exception`, a `BaseException`, so that `except Exception` does not hide it. Attempts
    on other threads, whose exceptions end nowhere, are in `attempts` too. A file that tries it while it is collected is
    skipped.
    """
    global _violations, _collecting  # noqa: PLW0603
    _violations, _collecting = [], collecting
    try:
        yield
    finally:
        _violations = None


def attempts() -> list[str]:
    """Return what the guarded code has tried since the last call, on any thread."""
    tried = list(_violations or ())
    if _violations:
        _violations.clear()
    return tried


def install() -> None:
    """Add the audit hook, which Python keeps until the process ends; it does nothing outside of `guarded`."""
    sys.addaudithook(_audit)
    spawn = multiprocessing.util.spawnv_passfds

    # Starting a process by multiprocessing raises no audit event.
    def guarded_spawn(path: Any, *arguments: Any) -> Any:
        _forbid("starts a process", path)
        return spawn(path, *arguments)

    multiprocessing.util.spawnv_passfds = guarded_spawn


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _violations is None:
        return
    if event == "import":
        library = str(arguments[0]).partition(".")[0]
        if library in _LIBRARIES:
            _forbid("imports", library)
    elif event in _EVENTS:
        _forbid(_EVENTS[event], arguments[:2])


def _forbid(action: str, subject: object) -> None:
    if _violations is not None:
        _violations.append(f"{action}: {subject!r}"[:300])
        if _collecting:
            pytest.skip(f"not a fast file, since it {action}: {subject!r}"[:300], allow_module_level=True)
        pytest.fail(f"a fast test {action}: {subject!r}"[:300], pytrace=False)
