"""A pool of worker processes, which are started on demand, leased for one piece of work, and reused.

Loading a model takes longer than most work, so a worker that has loaded the wanted model is preferred.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.backends.settings.resources import Resources
from tasks.backends.workers.process import Worker, WorkerError

_SAMPLING_ONLY = ("vllm_engine", "server")
"""Backend modules that only sample. All others train too, and are limited by `num_train_workers`."""


@dataclass(frozen=True)
class _IdleWorker:
    worker: Worker
    model: Path | None
    """Model that the worker has loaded, if any."""


@dataclass
class WorkerPool:
    """Worker processes of all backend modules. Safe for use by several threads."""

    resources: Resources
    logs: Path
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
            while (worker := self._take(module, model)) is None:
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
                self._idle.append(_IdleWorker(self._start(module), None))

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

    def _start(self, module: str) -> Worker:
        log = self.logs / f"{module}-{self._count(module) + 1}.log"
        worker = Worker(module, log, self.resources.threads_per_worker)
        self._workers.append(worker)
        return worker

    def _count(self, module: str) -> int:
        return sum(worker.module == module for worker in self._workers)

    def _limit(self, module: str) -> int:
        if module in _SAMPLING_ONLY:
            return self.resources.num_sample_workers
        return self.resources.num_train_workers
