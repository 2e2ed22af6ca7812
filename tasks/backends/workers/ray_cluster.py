"""Which engines a run has on a Ray cluster, and when they live: of one kind at a time, and none beside a training.

An engine is a detached actor, named by the module that it serves and by its number in a namespace that belongs to one pool of processes:
every task of a run finds it, and no run ends another's. It ends when work of another kind begins, and with its pool, whatever became
of the run. Of a pool that was killed, `tasks.backends.hosting` ends it.
"""

import contextlib
import importlib.util
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
"""The address that starts a cluster on this machine, and ends it."""
QUIET_RAY_INIT: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
LOCAL_RAY_INIT: dict[str, Any] = {"address": "local", "include_dashboard": False, **QUIET_RAY_INIT}
"""How a cluster of this machine is started, whatever other one it knows."""
TRAINING = "training"
"""The kind of work beside which no engine lives."""

MapPieces = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]], str, int], Iterator[Any]]
"""Who sends pieces to the cluster and brings the answers back in order: a function, its pieces, a name, how many at once."""
_LOST_MACHINES = 3
"""How often an engine is started again, on another machine, because its own was lost."""


def require_ray() -> None:
    """Check that what a cluster is reached by is there.

    Raises:
        HeirloomError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("prefect_ray") is None:
        raise HeirloomError("resources.ray names a cluster, but Ray is not installed; pip install 'heirloom[ray]'")


def connect(address: str) -> bool:
    """Reach the cluster, or start one here; whether the connection is the caller's to end, since it was not there before.

    Raises:
        HeirloomError: Ray is not installed, or no cluster answers at the address.
    """
    require_ray()
    import ray

    if ray.is_initialized():
        return False
    try:
        _knock(address)
        ray.init(**LOCAL_RAY_INIT) if address == LOCAL else ray.init(address, **QUIET_RAY_INIT)
    except (Exception, SystemExit) as error:
        said = str(error).partition("\n")[0]
        if "AuthenticationError" in str(error.__cause__):
            said = "it asks for a token: set RAY_AUTH_MODE=token, and have the head's ~/.ray/auth_token"
        raise HeirloomError(
            f"resources.ray is {address!r}, and no Ray cluster answers there ({said}); write `auto` on a machine of the cluster, "
            f"`ray://host:10001` beside it, or `{LOCAL}` to start one"
        ) from error
    return True


def _knock(address: str) -> None:
    """Ray itself asks for a minute, and then may end the process."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


@dataclass
class RayEngines:
    """Those of one pool of processes; of one kind at a time, since they and trainings want the same cards."""

    resources: Resources
    logs: Path
    map_pieces: MapPieces
    _namespace: str = field(default_factory=lambda: f"heirloom-{uuid.uuid4().hex[:12]}")
    _names: list[str] = field(default_factory=list)
    _connected: bool = False
    _ours: bool = False
    _kind: str = ""
    _users: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def connect(self) -> None:
        """Reach the cluster, once.

        Raises:
            HeirloomError: Ray is not installed, or no cluster answers.
        """
        with self._changed:
            if not self._connected:
                self._ours, self._connected = connect(self.resources.ray), True

    def map(
        self, module: str, function: str, pieces: Sequence[tuple[Any, ...]], of: int, progress: Progress
    ) -> Iterator[Any]:
        """What engines of a module answer to the pieces, in order and `of` so many in all.

        Raises:
            HeirloomError: an engine refused a piece, or the cluster has no room for engines.
            WorkerError: an engine failed.
        """
        if not pieces:
            return
        with self.reserve_gpus(module):
            names = self._started(module, min(len(pieces), self.resources.num_sample_workers))
            asked = (
                (self._namespace, names[place % len(names)], function, piece) for place, piece in enumerate(pieces)
            )
            done = 0
            for batches in self.map_pieces(call_engine, asked, function, 2 * len(names)):
                for batch in batches:
                    done += len(batch)
                    yield from batch
                progress(done, of)

    @contextlib.contextmanager
    def reserve_gpus(self, kind: str) -> Iterator[None]:
        """Time for one kind of work: a module's engines, or training; another arm's work of another kind is waited for."""
        with self._changed:
            while self._users and self._kind != kind:
                self._changed.wait()
            if self._kind != kind:
                self._end()
            self._kind, self._users = kind, self._users + 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """End every engine, those at work too, and the connection if it began here."""
        with self._changed:
            try:
                self._end()
            finally:
                if self._ours:
                    import ray

                    ray.shutdown()
                self._connected = self._ours = False

    def _started(self, module: str, count: int) -> list[str]:
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        self.connect()
        wanted = [f"{module}-{number}" for number in range(1, count + 1)]
        settings: dict[str, Any] = {"namespace": self._namespace, "lifetime": "detached", "get_if_exists": True}
        # What it computes with are its own threads: it rests while other pieces of the run have the cores.
        settings |= {"num_cpus": 0, "num_gpus": self.resources.gpus_per_engine, "scheduling_strategy": "SPREAD"}
        settings |= {"max_restarts": _LOST_MACHINES, "max_task_retries": _LOST_MACHINES}
        with self._changed:
            # What another arm is asking is there, and answers when it is through; of others one may have ended, for nobody asked.
            unsure = [name for name in wanted if self._users == 1 or name not in self._names]
            self._names += [name for name in wanted if name not in self._names]
            engines = [
                cast("Any", ray.remote(EngineActor))
                .options(name=name, **settings)
                .remote(module, self.logs.resolve() / f"engine-{name}.log", self.resources.threads_per_worker)
                for name in unsure
            ]
        try:
            ray.get(
                [engine.keep_alive.remote() for engine in engines], timeout=self.resources.server_unavailable_timeout_s
            )
        except GetTimeoutError as error:
            for engine in engines:
                ray.kill(engine)
            cards = f"{self.resources.gpus_per_engine:g} GPUs each; it has {ray.cluster_resources().get('GPU', 0):g}"
            raise HeirloomError(
                f"of {count} engines, some had not begun on the Ray cluster within {self.resources.server_unavailable_timeout_s:g} s, of {cards}: "
                "free some, change resources.num_sample_workers or resources.gpus_per_engine, or raise resources.server_unavailable_timeout_s"
            ) from error
        except RayError as error:
            raise WorkerError(
                f"engines could not be started on the Ray cluster; is Heirloom installed on its machines, in this version? {error}"
            ) from error
        return wanted

    def _end(self) -> None:
        """Once it returns, what the engines held is free."""
        if not self._names:
            return
        import ray
        from ray.exceptions import RayError

        engines = list(self._living())
        closing = [engine.close.remote() for _, engine in engines]
        with contextlib.suppress(RayError):
            # One that is at work does not listen, nor one whose machine is lost.
            ray.wait(closing, num_returns=len(closing), timeout=5) if closing else None
        for _, engine in engines:
            ray.kill(engine)
        while any(self._living()):
            time.sleep(0.05)
        self._names.clear()

    def _living(self) -> Iterator[tuple[str, Any]]:
        import ray

        for name in self._names:
            with contextlib.suppress(ValueError):
                yield name, ray.get_actor(name, self._namespace)
