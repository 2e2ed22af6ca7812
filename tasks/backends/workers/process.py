"""A process of its own for whoever learns or speaks, asked over a pipe and ended with its owner.

The child imports torch or vLLM, the parent never does. A call may tell its progress, yield many answers or
return one; a crash becomes a WorkerError that carries the child's last words. The child ends when its
owner does, however that ends.
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
from types import GeneratorType
from typing import Any

from heirloom.errors import HeirloomError
from tasks.backends.processes import SOURCE_ROOT, exit_with_parent
from tasks.backends.types import Progress

_LEAST_ROOM = 1 << 18
"""Bytes that must be free for a process to be able to write its last words."""


_LAST_WORDS = 12

_BACKENDS = {
    "ngram": "tasks.backends.toy.ngram",
    "gaussian_mixture": "tasks.backends.toy.gaussian_mixture",
    "vae": "tasks.backends.toy.vae",
    "transformer": "tasks.backends.transformer",
    "vllm_engine": "tasks.backends.inference.vllm_engine",
    "server": "tasks.backends.inference.openai_server",
}
"""Name of a worker: the module whose functions it serves."""


class WorkerError(RuntimeError):
    """A worker process failed; the message holds what it said last."""


class Worker:
    """One child process that serves the functions of one backend module."""

    def __init__(self, module: str, log: Path, threads: int) -> None:
        """Start the child; it imports `tasks.backends.<module>` while the caller goes on."""
        self.module, self._log = module, log
        log.parent.mkdir(parents=True, exist_ok=True)
        mine, theirs = socket.socketpair()
        root = str(SOURCE_ROOT)
        start = f"import sys; sys.path.insert(0, {root!r}); from tasks.backends.workers.process import serve; serve({module!r}, {theirs.fileno()}, {threads}, {os.getpid()})"
        with log.open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603  (our own interpreter and code)
                [sys.executable, "-P", "-c", start],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        theirs.close()
        self._pipe = connection.Connection(mine.detach())

    def call(self, function: str, progress: Progress, *arguments: Any) -> Any:  # noqa: ANN401
        """Ask for one answer.

        Raises:
            HeirloomError: the child refused the arguments.
            WorkerError: the child failed or died.
        """
        answers = list(self.stream(function, progress, *arguments))
        return answers[0] if answers else None

    def stream(self, function: str, progress: Progress, *arguments: Any) -> Iterator[Any]:  # noqa: ANN401
        """Ask for many answers, which the child begins to make, and take them as they come; leaving early ends the child."""
        try:
            self._pipe.send((function, arguments))
        except OSError as error:
            self.close()
            raise WorkerError(f"the {self.module} process died during {function}; {self._last_words()}") from error
        return self._taken(function, progress)

    def _taken(self, function: str, progress: Progress) -> Iterator[Any]:
        finished = False
        try:
            while True:
                kind, content = self._pipe.recv()
                if kind == "progress":
                    progress(*content)
                elif kind == "answer":
                    yield content
                else:
                    finished = True
                    break
        except (EOFError, OSError) as error:
            raise WorkerError(f"the {self.module} process died during {function}; {self._last_words()}") from error
        finally:
            if not finished:
                self.close()
        if kind == "refused":
            raise HeirloomError(content)
        if kind == "failed":
            raise WorkerError(f"the {self.module} process failed during {function}: {content}; {self._last_words()}")

    @property
    def alive(self) -> bool:
        """Whether the child can be asked."""
        return self._process.poll() is None and not self._pipe.closed

    def close(self) -> None:
        """End the child and everything it started."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _last_words(self) -> str:
        # A process that can write nothing cannot say why either.
        if shutil.disk_usage(self._log.parent).free < _LEAST_ROOM:
            return f"No space left on device: {self._log.parent}; make room, and the same command goes on from here"
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return f"its log, {self._log}, ends:\n" + "\n".join(lines[-_LAST_WORDS:])


def serve(module: str, descriptor: int, threads: int, owner: int) -> None:
    """The child's side: import the backend and answer calls until the owner is gone."""
    pipe = connection.Connection(descriptor)
    exit_with_parent(owner)
    # Read by torch and vLLM when they are imported, so set before the backend module is.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    backend, missing = _imported(module)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            function, arguments = pipe.recv()
            try:
                if missing:
                    raise HeirloomError(missing)
                _answer(pipe, backend, function, arguments)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except HeirloomError as error:
                traceback.print_exc()
                pipe.send(("refused", str(error)))
            except Exception as error:  # noqa: BLE001  (whatever it is, the owner must hear of it)
                traceback.print_exc()
                pipe.send(("failed", f"{type(error).__name__}: {error}"))


def _imported(module: str) -> tuple[Any, str]:
    try:
        return importlib.import_module(_BACKENDS[module]), ""
    except ImportError as error:
        traceback.print_exc()
        return None, f"the {module} backend cannot be imported: {error}"


def _answer(pipe: Any, backend: Any, function: str, arguments: tuple[Any, ...]) -> None:  # noqa: ANN401
    answer = getattr(backend, function)(*arguments, lambda done, of: pipe.send(("progress", (done, of))))
    for item in answer if isinstance(answer, GeneratorType) else [answer]:
        pipe.send(("answer", item))
    sys.stdout.flush()
    pipe.send(("finished", None))
