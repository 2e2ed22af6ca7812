"""Ray actor that runs a worker process as an engine on a machine of a cluster, and the function that calls it.

A completion depends on its prompt and its seed alone, so any engine can sample it. Engines of a run that was killed
exit after ten minutes without a call. Every machine of the cluster must have the models under the same path.
"""

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError
from tasks.backends.workers.process import Worker, WorkerError

_IDLE_SECONDS = 600


def call_engine(namespace: str, name: str, function: str, arguments: tuple[object, ...]) -> list[Any]:
    """Call a function on an engine, from any machine of its cluster, and return all its results.

    Args:
        namespace: Ray namespace of the worker pool.
        name: Name of the actor.
        function: Name of a function of the engine's backend module.
        arguments: Its positional arguments, without the progress callback.

    Raises:
        HeirloomError: the backend refused the arguments.
        WorkerError: the engine failed, or does not exist any more.
    """
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    try:
        engine = ray.get_actor(name, namespace)
    except ValueError as error:
        raise WorkerError(
            f"The engine {name} ended before {function}. Run the same command again to resume."
        ) from error
    try:
        return list(ray.get(engine.call.remote(function, arguments)))
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise WorkerError(
            f"The engine {name} died during {function}. Run the same command again to resume. Ray reports: {error}"
        ) from error


class EngineActor:
    """Actor with one worker process, which serves one call at a time."""

    def __init__(self, module: str, log: Path, threads: int) -> None:
        """Start the process on the GPUs that Ray has assigned to the actor; the arguments are those of `Worker`."""
        self._module, self._log, self._threads = module, log, threads
        self._worker = Worker(module, log, threads)
        self._last_used, self._busy = time.monotonic(), threading.Lock()
        if _in_actor():
            threading.Thread(target=self._end_when_idle, daemon=True).start()

    def keep_alive(self) -> None:
        """Restart the idle time. Returning at all shows that the actor runs."""
        self._last_used = time.monotonic()

    def call(self, function: str, arguments: tuple[object, ...]) -> list[Any]:
        """Call a function of the backend module and return all its results, after restarting the process if it died.

        Raises:
            HeirloomError: the backend refused the arguments, or a folder among them does not exist on this machine.
            WorkerError: the process failed or died.
        """
        for argument in arguments:
            if isinstance(argument, Path) and not argument.exists():
                raise HeirloomError(
                    f"{argument} does not exist on {socket.gethostname()}. Every machine of the Ray cluster must have "
                    "the store under the same path."
                )
        with self._busy:
            if not self._worker.alive:
                self._worker = Worker(self._module, self._log, self._threads)
            try:
                return list(self._worker.stream(function, lambda *_: None, *arguments))
            finally:
                self._last_used = time.monotonic()

    def close(self) -> None:
        """Kill the process, and return when it has exited."""
        self._worker.close()

    def _end_when_idle(self) -> None:
        """Remove the actor after a time without calls, since a run that was killed does not stop its engines."""
        import ray

        while True:
            time.sleep(_IDLE_SECONDS / 100)
            with self._busy:
                if time.monotonic() - self._last_used > _IDLE_SECONDS:
                    self._worker.close()
                    ray.kill(ray.get_runtime_context().current_actor)
                    os._exit(0)


def _in_actor() -> bool:
    """Whether this process is that of an actor. Outside a cluster, `ray.get_runtime_context` would start one."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
