"""An engine on a machine of a Ray cluster: a worker process held by an actor, and how any other machine asks it.

A text is what the process makes of a prompt and its seed, so it does not matter which engine is asked. What a killed run leaves
behind ends by itself, when nobody has asked for ten minutes. The machine must see models where the one that asks sees them.
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


def call_engine(namespace: str, name: str, function: str, arguments: tuple[Any, ...]) -> list[Any]:
    """Every answer of an engine, from any machine of its cluster.

    Raises:
        HeirloomError: it refused the arguments.
        WorkerError: it failed, or is not there any more.
    """
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    try:
        engine = ray.get_actor(name, namespace)
    except ValueError as error:
        raise WorkerError(f"the engine {name} has ended before {function}; run again to go on") from error
    try:
        return list(ray.get(engine.call.remote(function, arguments)))
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise WorkerError(f"the engine {name} died during {function}: {error}; run again to go on") from error


class EngineActor:
    """The actor: one worker process, asked one thing at a time."""

    def __init__(self, module: str, log: Path, threads: int) -> None:
        """Start the process, on the cards that Ray gives."""
        self._worker, self._begun = Worker(module, log, threads), (module, log, threads)
        self._asked, self._busy = time.monotonic(), threading.Lock()
        if _in_actor():
            threading.Thread(target=self._end_when_idle, daemon=True).start()

    def keep_alive(self) -> None:
        """Answer, and count the minutes from now."""
        self._asked = time.monotonic()

    def call(self, function: str, arguments: tuple[Any, ...]) -> list[Any]:
        """Every answer of the process; one that died is started again.

        Raises:
            HeirloomError: the process refused the arguments, or a folder among them is not seen from here.
            WorkerError: the process failed or died.
        """
        for folder in [one for one in arguments if isinstance(one, Path) and not one.exists()]:
            raise HeirloomError(
                f"{socket.gethostname()} does not see {folder}: every machine of the cluster must see the store under the same path"
            )
        with self._busy:
            if not self._worker.alive:
                self._worker = Worker(*self._begun)
            try:
                return list(self._worker.stream(function, lambda *_: None, *arguments))
            finally:
                self._asked = time.monotonic()

    def close(self) -> None:
        """End the process, and know that it has ended."""
        self._worker.close()

    def _end_when_idle(self) -> None:
        import ray

        while True:
            time.sleep(_IDLE_SECONDS / 100)
            with self._busy:
                if time.monotonic() - self._asked > _IDLE_SECONDS:
                    self._worker.close()
                    ray.kill(ray.get_runtime_context().current_actor)
                    os._exit(0)


def _in_actor() -> bool:
    """Whether this process is an actor's; to ask Ray outside would start a cluster."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
