"""A pool of worker processes, which are started on demand, leased for one piece of work, and reused.

Loading a model takes longer than most work, so a worker that has loaded the wanted model is preferred.

On a machine with GPUs every engine has GPUs of its own, and engines and trainings take turns: vLLM holds most of the
memory of its GPUs as long as it runs. So idle engines are ended before a training, and idle trainers before an engine
starts. On a CPU both stay, since an engine takes only what it needs there.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.backends.machine import this_machine
from tasks.backends.settings.resources import Resources
from tasks.backends.workers.process import Worker, WorkerError

_SAMPLING_ONLY = ("vllm_engine", "server")
"""Backend modules that only sample. All others train too, and are limited by `num_train_workers`."""
_ON_GPUS = (*_SAMPLING_ONLY, "transformer")
"""Backend modules that use GPUs if there are any."""


@dataclass(frozen=True)
class _IdleWorker:
    worker: Worker
    model: Path | None
    """Model that the worker has loaded, if any."""
    used: bool = True
    """Whether the worker has had work, and so may hold memory of its GPUs."""


@dataclass
class WorkerPool:
    """Worker processes of all backend modules. Safe for use by several threads."""

    resources: Resources
    logs: Path
    gpus: tuple[str, ...] = field(default_factory=lambda: tuple(gpu.name for gpu in this_machine().gpus))
    """GPUs for the workers, by their names for `CUDA_VISIBLE_DEVICES`."""
    _idle: list[_IdleWorker] = field(default_factory=list)
    _workers: list[Worker] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Every worker that was started and not yet found dead, idle or not."""
        return tuple(self._workers)

    @property
    def idle(self) -> tuple[Worker, ...]:
        """Workers that are not leased, in the order of their return."""
        return tuple(entry.worker for entry in self._idle)

    @contextlib.contextmanager
    def lease(self, module: str, model: Path | None) -> Iterator[Worker]:
        """Lease one worker of a backend module; wait if all are busy.

        Args:
            module: Key of `tasks.backends.workers.process.BACKEND_MODULES`.
            model: Model that the work needs. A worker that has loaded it is preferred.
        """
        with self.lease_many(module, model, 1) as (worker,):
            yield worker

    @contextlib.contextmanager
    def lease_many(self, module: str, model: Path | None, max_workers: int) -> Iterator[list[Worker]]:
        """Lease one worker, after waiting for it, and up to `max_workers` if more are free.

        Raises:
            WorkerError: the pool is closed.
        """
        with self._changed:
            while not self._gpus_are_free(module) or (worker := self._take(module, model)) is None:
                self._changed.wait()
            workers = [worker]
            while len(workers) < max_workers and (worker := self._take(module, model)):
                workers.append(worker)
        try:
            yield workers
        finally:
            with self._changed:
                # Dead workers are sorted out by `_take`. Those that `close` has removed meanwhile stay removed.
                self._idle += [_IdleWorker(worker, model) for worker in workers if worker in self._workers]
                self._changed.notify_all()

    def start_all(self, module: str) -> None:
        """Start as many workers of a module as the resources allow."""
        with self._changed:
            while self._count(module) < self._limit(module):
                self._idle.append(_IdleWorker(self._start(module), None, used=False))

    def close(self) -> None:
        """Kill every worker, including those that are leased; a thread that waits for one gets an error."""
        with self._changed:
            self._closed = True
            for worker in self._workers:
                worker.close()
            self._idle.clear()
            self._workers.clear()
            self._changed.notify_all()

    def _take(self, module: str, model: Path | None) -> Worker | None:
        """Return an idle worker or a new one; None if the limit is reached. The caller holds the lock."""
        if self._closed:
            raise WorkerError(f"The {module} process was not started, since the command is ending.")
        self._workers = [worker for worker in self._workers if worker.alive]
        self._idle = [entry for entry in self._idle if entry.worker.alive]
        candidates = [entry for entry in self._idle if entry.worker.module == module]
        if candidates:
            with_model = [entry for entry in candidates if model and entry.model == model]
            without_model = [entry for entry in candidates if entry.model is None]
            best = [*with_model, *without_model, *candidates][0]
            self._idle.remove(best)
            return best.worker
        return self._start(module) if self._count(module) < self._limit(module) else None

    def _gpus_are_free(self, module: str) -> bool:
        """Whether no worker of the other kind holds the GPUs, after ending those that are idle."""
        if not self.gpus or module not in _ON_GPUS:
            return True
        for entry in list(self._idle):
            if entry.used and self._excludes(module, entry.worker):
                entry.worker.close()
                self._idle.remove(entry)
                self._workers.remove(entry.worker)
        idle = self.idle
        return not any(
            self._excludes(module, worker) for worker in self._workers if worker not in idle and worker.alive
        )

    def _excludes(self, module: str, worker: Worker) -> bool:
        """Whether work of a module cannot run while a worker holds GPUs."""
        return worker.module in _ON_GPUS and (module in _SAMPLING_ONLY) != (worker.module in _SAMPLING_ONLY)

    def _start(self, module: str) -> Worker:
        log = self.logs / f"{module}-{self._count(module) + 1}.log"
        worker = Worker(module, log, self.resources.threads_per_worker, self._gpus_for(module))
        self._workers.append(worker)
        return worker

    def _gpus_for(self, module: str) -> tuple[str, ...] | None:
        """Return the GPUs of a new worker: those of no other engine; one of a training process; None leaves all."""
        resources = self.resources
        if not self.gpus or module not in _ON_GPUS:
            return None
        if module not in _SAMPLING_ONLY:
            if resources.accelerate_config or resources.num_train_workers == 1:
                return None
            return (self.gpus[self._count(module) % len(self.gpus)],)
        taken = {gpu for worker in self._workers if worker.module == module for gpu in worker.gpus or ()}
        return tuple(gpu for gpu in self.gpus if gpu not in taken)[: resources.gpus_per_local_engine]

    def _count(self, module: str) -> int:
        return sum(worker.module == module for worker in self._workers)

    def _limit(self, module: str) -> int:
        if module in _SAMPLING_ONLY:
            return self.resources.num_sample_workers
        return self.resources.num_train_workers
