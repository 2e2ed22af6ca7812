"""Which process serves whom: worker processes are started once, shared by all arms of a run, ended together.

A caller leases a worker for one piece of work; one that already holds the caller's model is preferred.
"""

import contextlib
import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from heirloom.errors import HeirloomError
from tasks.backends.protocols import Sampler, Scorer, Trainer
from tasks.backends.settings.capabilities import api_key, require_supported
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import ToyTraining, Training, TransformerTraining
from tasks.backends.workers.process import Worker
from tasks.backends.workers.ray_cluster import MapPieces, RayEngines
from tasks.backends.workers.sampler_client import SAMPLER_MODULES, SamplerClient
from tasks.backends.workers.trainer_client import ScorerClient, TrainerClient, trainer_module

_SAMPLERS = ("auto", "vllm", "server", "transformers")
"""Who speaks for a transformer."""
_NEEDED = {
    "transformer": ("torch", "transformers", "accelerate"),
    "ngram": (),
    "gaussian-mixture": ("sklearn",),
    "vae": ("torch", "safetensors"),
}


def resolve_sampler(sampling: Sampling, training: Training) -> Sampling:
    """The settings with `auto` decided for this machine; decided once a run, then stored with it.

    Raises:
        HeirloomError: the sampler asked for is not installed, cannot speak for this backend's models, or not with these settings.
    """
    if isinstance(training, ToyTraining):
        if sampling.sampler not in ("auto", training.backend):
            raise HeirloomError(
                f"generate.sampler is {sampling.sampler!r}, but a model of backend {training.backend!r} is spoken for by "
                f"{training.backend!r} (or 'auto')"
            )
        return require_supported(sampling.model_copy(update={"sampler": training.backend}))
    if sampling.sampler not in _SAMPLERS:
        raise HeirloomError(
            f"generate.sampler is {sampling.sampler!r}, but train.backend is 'transformer'; use 'auto', 'vllm', 'server' or "
            "'transformers'"
        )
    installed = importlib.util.find_spec("vllm") is not None
    if sampling.sampler == "vllm" and not installed:
        raise HeirloomError(
            "generate.sampler is 'vllm', but vLLM is not installed; install it, or set generate.sampler = 'transformers'"
        )
    chosen = ("vllm" if installed else "transformers") if sampling.sampler == "auto" else sampling.sampler
    return require_supported(sampling.model_copy(update={"sampler": chosen}))


def require_installed(training: Training) -> None:
    """Check that what a training needs is there.

    Raises:
        HeirloomError: a library is missing.
    """
    needed = list(_NEEDED[training.backend])
    if isinstance(training, TransformerTraining):
        needed += ["trl", "datasets"] if training.objective != "lm" else []
        needed += ["peft"] if training.lora_rank or training.objective != "lm" else []
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        extra = "embed" if "sklearn" in missing else "train"
        raise HeirloomError(
            f"train.backend is {training.backend!r}, but {', '.join(missing)} is not installed; "
            f"pip install 'heirloom[{extra}]', or set train.backend = 'ngram'"
        )


@dataclass
class Backends:
    """Trainers, samplers and scorers, and the processes behind them."""

    resources: Resources
    logs: Path
    engines: RayEngines | None = None
    """Those of the Ray cluster, which speak and score in the place of processes here."""
    _free: list[tuple[str, Path | None, Worker]] = field(default_factory=list)
    _workers: list[Worker] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def trainer(self) -> Trainer:
        """Return a trainer for jobs of every backend."""
        return TrainerClient(self)

    def scorer(self, training: Training) -> Scorer:
        """Return a scorer for models that were trained with these settings."""
        return ScorerClient(self, training)

    def sampler(self, sampling: Sampling) -> Sampler:
        """Who speaks with these settings; `auto` must have been resolved."""
        return SamplerClient(self, sampling)

    def preload(self, training: Training, sampling: Sampling) -> None:
        """Start the processes that this work will need, so that their imports overlap with other work.

        Raises:
            HeirloomError: the site lacks what asking a server or a cluster needs; better said now than after a training.
        """
        api_key(sampling, self.resources)
        if self.engines:
            self.engines.connect()
        self._top_up(trainer_module(training))
        if not self.engines or sampling.sampler == "server":
            self._top_up(SAMPLER_MODULES[sampling.sampler])

    @contextlib.contextmanager
    def lease(self, module: str, model: Path | None) -> Iterator[Worker]:
        """A worker for one piece of work, after waiting for a free one where all are busy."""
        with self.lease_many(module, model, 1) as (worker,):
            yield worker

    @contextlib.contextmanager
    def lease_many(self, module: str, model: Path | None, max_workers: int) -> Iterator[list[Worker]]:
        """One worker, after waiting for it, and up to `most` where more are free."""
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
                # A dead one is found out by whoever looks next; one that was closed meanwhile is nobody's any more.
                self._free += [(module, model, worker) for worker in workers if worker in self._workers]
                self._changed.notify_all()

    def close(self) -> None:
        """End every process, those at work too."""
        with self._changed:
            for worker in self._workers:
                worker.close()
            self._free.clear()
            self._workers.clear()
        if self.engines:
            self.engines.close()

    def _take(self, module: str, model: Path | None) -> Worker | None:
        self._workers = [worker for worker in self._workers if worker.alive]
        self._free = [entry for entry in self._free if entry[2].alive]
        mine = [entry for entry in self._free if entry[0] == module]
        idle = [entry for entry in mine if entry[1] is None]
        for best in [*(entry for entry in mine if model and entry[1] == model), *idle, *mine][:1]:
            self._free.remove(best)
            return best[2]
        return self._start(module) if self._count(module) < self._limit(module) else None

    def _top_up(self, module: str) -> None:
        with self._changed:
            while self._count(module) < self._limit(module):
                self._free.append((module, None, self._start(module)))

    def _start(self, module: str) -> Worker:
        worker = Worker(
            module, self.logs / f"{module}-{self._count(module) + 1}.log", self.resources.threads_per_worker
        )
        self._workers.append(worker)
        return worker

    def _count(self, module: str) -> int:
        return sum(worker.module == module for worker in self._workers)

    def _limit(self, module: str) -> int:
        return (
            self.resources.num_sample_workers
            if module in ("vllm_engine", "server")
            else self.resources.num_train_workers
        )


_open: dict[tuple[Resources, Path], tuple[Backends, int]] = {}
_opening = threading.Lock()


@contextlib.contextmanager
def open_backends(resources: Resources, logs: Path, map_pieces: MapPieces | None = None) -> Iterator[Backends]:
    """The processes of this site; opened by whoever comes first, closed when the last one leaves.

    With `spread` and a cluster of the site, engines there speak and score.
    """
    site = (resources, logs)
    engines = RayEngines(resources, logs, map_pieces) if resources.ray and map_pieces else None
    with _opening:
        backends, users = _open.get(site, (Backends(resources, logs, engines), 0))
        _open[site] = (backends, users + 1)
    try:
        yield backends
    finally:
        with _opening:
            backends, users = _open[site]
            if users > 1:
                _open[site] = (backends, users - 1)
            else:
                del _open[site]
                backends.close()
