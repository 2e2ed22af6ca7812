"""A child process that serves the functions of one backend module over a pipe.

Only the child imports torch or vLLM. The parent sends `(function, arguments)`; the child answers with messages
`(kind, content)`:

* `progress`: numbers of finished and of all items,
* `answer`: one result, of which a generator function sends many,
* `finished`, `refused` (a HeirloomError) or `failed` (any other exception), which end the call.

The child exits when its parent does, including when the parent is killed.
"""

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path
from types import GeneratorType, ModuleType
from typing import Any

from heirloom.errors import HeirloomError
from tasks.backends.processes import SOURCE_ROOT, exit_with_parent
from tasks.backends.types import Progress

BACKEND_MODULES = {
    "ngram": "tasks.backends.toy.ngram",
    "gaussian_mixture": "tasks.backends.toy.gaussian_mixture",
    "vae": "tasks.backends.toy.vae",
    "transformer": "tasks.backends.transformer",
    "vllm_engine": "tasks.backends.inference.vllm_engine",
    "server": "tasks.backends.inference.openai_server",
}
"""Name of a worker: the module whose functions it serves."""

_MIN_FREE_BYTES = 1 << 18
"""With less free disk space a process may be unable to log why it failed."""
_LOG_TAIL_LINES = 12


class WorkerError(RuntimeError):
    """A worker process failed; the message contains the end of its log."""


class Worker:
    """One child process that serves the functions of one backend module."""

    def __init__(self, module: str, log: Path, threads: int, gpus: tuple[str, ...] | None = None) -> None:
        """Start the child, which imports its backend module while the caller continues.

        Args:
            module: A key of `BACKEND_MODULES`.
            log: File to which the child's output is appended.
            threads: CPU threads of the child's numerical libraries.
            gpus: GPUs that the child may use, by their names for `CUDA_VISIBLE_DEVICES`; None: those of this process.
        """
        self.module, self.gpus, self._log = module, gpus, log
        arguments = f"{BACKEND_MODULES[module]!r}, {{descriptor}}, {threads}, {os.getpid()}"
        log.parent.mkdir(parents=True, exist_ok=True)
        parent_end, child_end = socket.socketpair()
        code = (
            f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r}); from tasks.backends.workers.process import serve; "
            f"serve({arguments.format(descriptor=child_end.fileno())})"
        )
        with log.open("ab") as log_file:
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and code)
                [sys.executable, "-P", "-c", code],
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                env=os.environ if gpus is None else {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(gpus)},
            )
        child_end.close()
        self._pipe = connection.Connection(parent_end.detach())

    def call(self, function: str, progress: Progress, *arguments: object) -> Any:  # noqa: ANN401
        """Call a function of the backend and return its result.

        Raises:
            HeirloomError: the backend refused the arguments.
            WorkerError: the child failed or exited.
        """
        answers = list(self.stream(function, progress, *arguments))
        return answers[0] if answers else None

    def stream(self, function: str, progress: Progress, *arguments: object) -> Iterator[Any]:
        """Call a generator function of the backend, and yield its results as they arrive.

        The child starts at once. Closing the iterator early kills the child, since it cannot be interrupted.

        Raises:
            HeirloomError: the backend refused the arguments.
            WorkerError: the child failed or exited.
        """
        try:
            self._pipe.send((function, arguments))
        except OSError as error:
            self.close()
            raise self._death(function) from error
        return self._receive(function, progress)

    @property
    def alive(self) -> bool:
        """Whether the child can take a call."""
        return self._process.poll() is None and not self._pipe.closed

    def close(self) -> None:
        """Kill the child and every process that it started."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _receive(self, function: str, progress: Progress) -> Iterator[Any]:
        finished = False
        try:
            while not finished:
                kind, content = self._pipe.recv()
                if kind == "progress":
                    progress(*content)
                elif kind == "answer":
                    yield content
                else:
                    finished = True
        except (EOFError, OSError) as error:
            raise self._death(function) from error
        finally:
            # Messages of an abandoned call would be taken for those of the next one.
            if not finished:
                self.close()
        if kind == "refused":
            raise HeirloomError(content)
        if kind == "failed":
            raise WorkerError(f"The {self.module} process failed during {function}: {content}. {self._log_tail()}")

    def _death(self, function: str) -> WorkerError:
        return WorkerError(f"The {self.module} process died during {function}. {self._log_tail()}")

    def _log_tail(self) -> str:
        # A process that can write nothing cannot log the reason either.
        if shutil.disk_usage(self._log.parent).free < _MIN_FREE_BYTES:
            return f"No space left on device: {self._log.parent}. Free some, then run the same command again to resume."
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return f"End of its log, {self._log}:\n" + "\n".join(lines[-_LOG_TAIL_LINES:])


def serve(module: str, descriptor: int, threads: int, parent_pid: int) -> None:
    """Run the child's side: import the backend module and serve calls until the parent exits.

    Args:
        module: Full name of the backend module.
        descriptor: File descriptor of the pipe to the parent.
        threads: CPU threads of the numerical libraries.
        parent_pid: Process after whose end this one exits.
    """
    pipe = connection.Connection(descriptor)
    exit_with_parent(parent_pid)
    # torch and vLLM read this when they are imported, so it is set before the backend module is imported.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    backend, import_error = _import_backend(module)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            function, arguments = pipe.recv()
            try:
                if backend is None:
                    raise HeirloomError(import_error)
                _run_call(pipe, backend, function, arguments)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except HeirloomError as error:
                traceback.print_exc()
                pipe.send(("refused", str(error)))
            except Exception as error:  # noqa: BLE001  (the parent raises a WorkerError for every exception)
                traceback.print_exc()
                pipe.send(("failed", f"{type(error).__name__}: {error}"))


def _import_backend(module: str) -> tuple[ModuleType | None, str]:
    """Return the module, or the reason why it cannot be imported: most often a library that is not installed."""
    try:
        return importlib.import_module(module), ""
    except ImportError as error:
        traceback.print_exc()
        return None, f"The backend module {module} cannot be imported: {error}. Install the extra that it needs."


def _run_call(
    pipe: "connection.Connection[Any, Any]", backend: ModuleType, function: str, arguments: tuple[object, ...]
) -> None:
    def send_progress(done: int, of: int) -> None:
        pipe.send(("progress", (done, of)))

    result = getattr(backend, function)(*arguments, send_progress)
    for answer in result if isinstance(result, GeneratorType) else [result]:
        pipe.send(("answer", answer))
    sys.stdout.flush()
    pipe.send(("finished", None))
