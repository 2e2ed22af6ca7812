"""Start and stop the engines of a run on a Ray cluster: engines of one kind at a time, and none during training.

An engine is a detached actor, named by its backend module and a number, in a namespace of one worker pool. So every
task of a run finds it, and no run stops the engines of another. Engines are stopped when work of another kind begins
and when the pool closes. If the process of the pool is killed, the actors end themselves
(`tasks.backends.workers.ray_actor`).
"""

import contextlib
import importlib.util
import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from heirloom.errors import HeirloomError
from tasks.backends.settings.resources import Resources
from tasks.backends.types import Progress
from tasks.backends.workers.process import WorkerError
from tasks.backends.workers.ray_actor import EngineActor, call_engine

LOCAL = "local"
"""Value of `resources.ray` that starts a cluster on this machine and stops it at the end."""
QUIET_RAY_INIT: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
LOCAL_RAY_INIT: dict[str, Any] = {"address": "local", "include_dashboard": False, **QUIET_RAY_INIT}
"""Options that start a cluster on this machine, even if another one runs here."""
TRAINING = "training"
"""The kind of work during which no engine runs."""

MapPieces = Callable[[Callable[..., Any], Iterable[tuple[object, ...]], str, int], Iterator[Any]]
"""Maps a function over argument tuples on the cluster and yields the results in order.

Arguments: the function, its argument tuples, a name for the tasks, and the maximum number of concurrent calls.
"""
_MAX_RESTARTS = 3
"""How often Ray starts an engine again on another machine after losing its machine."""


def require_ray() -> None:
    """Check that Ray and its Prefect integration are installed.

    Raises:
        HeirloomError: one of them is not installed.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("prefect_ray") is None:
        raise HeirloomError("`resources.ray` is set, but Ray is not installed. Run pip install 'heirloom[ray]'.")


def new_token() -> None:
    """Give a cluster that this process starts a token of its own, unless the user has set one.

    Ray listens on every network interface of the machine, also for a cluster of one machine. It therefore asks for a
    token where RAY_AUTH_MODE is unset, which would otherwise be kept in the home folder.
    """
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def connect(address: str) -> bool:
    """Connect to a cluster, or start one on this machine. Do nothing if this process is connected already.

    Args:
        address: A Ray address, or `LOCAL`.

    Returns:
        Whether the connection was opened, so that the caller has to close it.

    Raises:
        HeirloomError: Ray is not installed, or there is no cluster at the address.
    """
    require_ray()
    import ray

    if ray.is_initialized():
        return False
    try:
        _check_port(address)
        if address == LOCAL:
            new_token()
            ray.init(**LOCAL_RAY_INIT)
        else:
            ray.init(address, **QUIET_RAY_INIT)
    except (Exception, SystemExit) as error:
        if "AuthenticationError" in str(error.__cause__):
            reason = "it requires a token. Set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token from the head node"
        else:
            reason = str(error).partition("\n")[0].rstrip(".")
        raise HeirloomError(
            f"Cannot connect to the Ray cluster at {address!r} (`resources.ray`): {reason}. Use `auto` on a cluster "
            f"node, `ray://host:10001` from another machine, or `{LOCAL}` to start a cluster."
        ) from error
    return True


def _check_port(address: str) -> None:
    """Fail early if nothing listens at a host and port: Ray itself retries for a minute and may then exit."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


@dataclass
class RayEngines:
    """The engines of one worker pool: of one kind at a time, since engines and training share the GPUs.

    Safe for use by several threads.
    """

    resources: Resources
    logs: Path
    map_pieces: MapPieces
    _namespace: str = field(default_factory=lambda: f"heirloom-{uuid.uuid4().hex[:12]}")
    _names: list[str] = field(default_factory=list)
    """Actors that may be running."""
    _connected: bool = False
    _opened_connection: bool = False
    _kind: str = ""
    """Kind of the current or last work: a backend module, or `TRAINING`."""
    _num_users: int = 0
    """Number of threads that have reserved the GPUs for this kind."""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def connect(self) -> None:
        """Connect to the cluster if this has not been done.

        Raises:
            HeirloomError: Ray is not installed, or there is no cluster.
        """
        with self._changed:
            if not self._connected:
                self._opened_connection = connect(self.resources.ray)
                self._connected = True

    def map(
        self, module: str, function: str, pieces: Sequence[tuple[object, ...]], of: int, progress: Progress
    ) -> Iterator[Any]:
        """Call a function of a backend module on engines, and yield all results of all pieces in order.

        Args:
            module: Key of `tasks.backends.workers.process.BACKEND_MODULES`.
            function: Name of a generator function of the module.
            pieces: Argument tuples, one per call.
            of: Total number of results, for `progress`.
            progress: Called after each batch of results.

        Raises:
            HeirloomError: an engine refused a piece, or the cluster has no room for engines.
            WorkerError: an engine failed.
        """
        if not pieces:
            return
        with self.reserve_gpus(module):
            names = self._start_engines(module, min(len(pieces), self.resources.num_sample_workers))
            calls = (
                (self._namespace, names[index % len(names)], function, piece) for index, piece in enumerate(pieces)
            )
            done = 0
            # Two calls per engine, so that the next one is queued when one ends.
            for batches in self.map_pieces(call_engine, calls, function, 2 * len(names)):
                for batch in batches:
                    done += len(batch)
                    yield from batch
                progress(done, of)

    @contextlib.contextmanager
    def reserve_gpus(self, kind: str) -> Iterator[None]:
        """Reserve the GPUs for one kind of work, after waiting for work of another kind and stopping its engines.

        Args:
            kind: Backend module of the engines, or `TRAINING`.
        """
        with self._changed:
            while self._num_users and self._kind != kind:
                self._changed.wait()
            if self._kind != kind:
                self._stop_engines()
            self._kind = kind
            self._num_users += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_users -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Stop every engine, including busy ones, and close the connection if this object opened it."""
        with self._changed:
            try:
                self._stop_engines()
            finally:
                if self._opened_connection:
                    import ray

                    ray.shutdown()
                self._connected = self._opened_connection = False

    def _start_engines(self, module: str, count: int) -> list[str]:
        """Start the engines that are not running, wait until all respond, and return the names of all."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        self.connect()
        names = [f"{module}-{number}" for number in range(1, count + 1)]
        options: dict[str, object] = {
            "namespace": self._namespace,
            "lifetime": "detached",
            "get_if_exists": True,
            # An engine has its own threads, and is idle while other tasks of the run use the cores.
            "num_cpus": 0,
            "num_gpus": self.resources.gpus_per_engine,
            "scheduling_strategy": "SPREAD",
            "max_restarts": _MAX_RESTARTS,
            "max_task_retries": _MAX_RESTARTS,
        }
        timeout_s = self.resources.server_unavailable_timeout_s
        with self._changed:
            # An engine that another thread uses is running, and would respond only after its current call. If there
            # is no other thread, each engine may have ended itself because it was idle.
            uncertain = [name for name in names if self._num_users == 1 or name not in self._names]
            self._names += [name for name in names if name not in self._names]
            actor_class = cast("Any", ray.remote(EngineActor))
            engines = []
            for name in uncertain:
                log = self.logs.resolve() / f"engine-{name}.log"
                engine = actor_class.options(name=name, **options)
                engines.append(engine.remote(module, log, self.resources.threads_per_worker))
        try:
            ray.get([engine.keep_alive.remote() for engine in engines], timeout=timeout_s)
        except GetTimeoutError as error:
            for engine in engines:
                ray.kill(engine)
            num_gpus = ray.cluster_resources().get("GPU", 0)
            raise HeirloomError(
                f"Not all of {count} engines started on the Ray cluster within {timeout_s:g} s. Each needs "
                f"{self.resources.gpus_per_engine:g} GPUs, and the cluster has {num_gpus:g}. Free some, lower "
                "`resources.num_sample_workers` or `resources.gpus_per_engine`, or raise "
                "`resources.server_unavailable_timeout_s`."
            ) from error
        except RayError as error:
            raise WorkerError(
                "Engines could not be started on the Ray cluster. Check that this version of Heirloom is installed on "
                f"its machines. {error}"
            ) from error
        return names

    def _stop_engines(self) -> None:
        """Stop all engines, and return when their GPUs are free."""
        if not self._names:
            return
        import ray
        from ray.exceptions import RayError

        engines = self._running_engines()
        closing = [engine.close.remote() for engine in engines]
        if closing:
            # A busy engine, or one whose machine is lost, does not respond within the timeout.
            with contextlib.suppress(RayError):
                ray.wait(closing, num_returns=len(closing), timeout=5)
        for engine in engines:
            ray.kill(engine)
        while self._running_engines():
            time.sleep(0.05)
        self._names.clear()

    def _running_engines(self) -> list[Any]:
        """Return handles of the actors that still exist."""
        import ray

        engines = []
        for name in self._names:
            # Ray raises ValueError if there is no actor of this name.
            with contextlib.suppress(ValueError):
                engines.append(ray.get_actor(name, self._namespace))
        return engines
