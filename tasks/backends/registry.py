"""Choose backends for the settings of a recipe, and open the worker processes of a site."""

import contextlib
import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from heirloom.errors import HeirloomError
from tasks.backends.inference.engine_arguments import require_engine_arguments
from tasks.backends.models.pretrained import require_available
from tasks.backends.protocols import Sampler, Scorer, Trainer
from tasks.backends.settings.capabilities import api_key, require_supported
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import ToyTraining, Training, TransformerTraining
from tasks.backends.workers.pool import WorkerPool
from tasks.backends.workers.ray_cluster import MapPieces, RayEngines
from tasks.backends.workers.sampler_client import SAMPLER_MODULES, SamplerClient
from tasks.backends.workers.trainer_client import ScorerClient, TrainerClient, trainer_module

_TRANSFORMER_SAMPLERS = ("auto", "vllm", "server", "transformers")
"""Values of `generate.sampler` for models of the transformer backend."""
_REQUIRED_PACKAGES = {
    "transformer": ("torch", "transformers", "accelerate"),
    "ngram": (),
    "gaussian-mixture": ("sklearn",),
    "vae": ("torch", "safetensors"),
}
"""`train.backend`: packages that must be installed."""


def resolve_sampler(sampling: Sampling, training: Training) -> Sampling:
    """Return the settings with `auto` replaced by a sampler of this machine. Done once a run, then stored with it.

    Raises:
        HeirloomError: the sampler is not installed, or cannot sample models of this backend, or not with these
            settings.
    """
    if isinstance(training, ToyTraining):
        if sampling.sampler not in ("auto", training.backend):
            raise HeirloomError(
                f"generate.sampler is {sampling.sampler!r}, but train.backend is {training.backend!r}. "
                f"Use {training.backend!r} or 'auto'."
            )
        return require_supported(sampling.model_copy(update={"sampler": training.backend}))
    if sampling.sampler not in _TRANSFORMER_SAMPLERS:
        raise HeirloomError(
            f"generate.sampler is {sampling.sampler!r}, but train.backend is 'transformer'. "
            "Use 'auto', 'vllm', 'server' or 'transformers'."
        )
    vllm_installed = importlib.util.find_spec("vllm") is not None
    if sampling.sampler == "vllm" and not vllm_installed:
        raise HeirloomError(
            "generate.sampler is 'vllm', but vLLM is not installed. Install it, or set generate.sampler = "
            "'transformers'."
        )
    sampler = sampling.sampler
    if sampler == "auto":
        sampler = "vllm" if vllm_installed else "transformers"
    return require_supported(sampling.model_copy(update={"sampler": sampler}))


def require_installed(training: Training) -> None:
    """Check that the packages that a training imports are installed, and that its base model is on this machine.

    Raises:
        HeirloomError: a package or the base model is missing.
    """
    required = list(_REQUIRED_PACKAGES[training.backend])
    if isinstance(training, TransformerTraining):
        if training.preset == "qlora" and importlib.util.find_spec("bitsandbytes") is None:
            raise HeirloomError(
                "train.preset is 'qlora', but bitsandbytes is not installed. Run `pip install bitsandbytes`, or set "
                "train.preset = 'lora'."
            )
        if training.objective != "lm":
            required += ["trl", "datasets"]
        if training.lora_rank or training.objective != "lm":
            required += ["peft"]
    missing = [name for name in required if importlib.util.find_spec(name) is None]
    if missing:
        extra = "embed" if "sklearn" in missing else "train"
        raise HeirloomError(
            f"train.backend is {training.backend!r}, but {', '.join(missing)} is not installed. "
            f"Run `pip install 'heirloom[{extra}]'`, or set train.backend = 'ngram'."
        )
    if isinstance(training, TransformerTraining) and training.base_model:
        require_available(training.base_model)


def require_local_models(sampling: Sampling, resources: Resources) -> None:
    """Check that the teachers that are sampled on this machine are there.

    Raises:
        HeirloomError: a package or folder is missing.
    """
    for teacher in sampling.model_names:
        if model := resources.local_model(teacher) if teacher else "":
            require_available(model)


def _require_gpus(resources: Resources, num_gpus: int) -> None:
    """Check that the engines of this machine have GPUs enough. Those of a Ray cluster and of servers are elsewhere."""
    per_engine = resources.gpus_per_local_engine
    needed = resources.num_sample_workers * per_engine
    if resources.ray or resources.server_urls or (not num_gpus and per_engine == 1) or needed <= num_gpus:
        return
    if not num_gpus:
        # vLLM's CPU build splits a model over NUMA nodes by processes that pin their threads; one process is used here.
        raise HeirloomError(
            f"An engine of {per_engine} GPUs is asked for, but this machine has none. Set "
            "`resources.tensor_parallel_size` and `resources.pipeline_parallel_size` to 1; on a CPU "
            "`resources.threads_per_worker` uses more cores."
        )
    raise HeirloomError(
        f"{resources.num_sample_workers} sampling processes with {per_engine} GPUs each need {needed} GPUs, but this "
        f"machine has {num_gpus}. Lower `resources.num_sample_workers`, `resources.tensor_parallel_size` or "
        "`resources.pipeline_parallel_size`."
    )


def require_trackers(resources: Resources) -> None:
    """Check that the trackers of the site are installed.

    Raises:
        HeirloomError: one is missing.
    """
    missing = [name for name in resources.report_to if importlib.util.find_spec(name) is None]
    if missing:
        raise HeirloomError(
            f"resources.report_to names {', '.join(missing)}, which is not installed. Run `pip install "
            f"{' '.join(missing)}`, or remove it from resources.report_to."
        )


@dataclass
class Backends:
    """Trainers, samplers and scorers of a site, and the processes they run in."""

    resources: Resources
    logs: Path
    engines: RayEngines | None = None
    """Engines of the site's Ray cluster, which sample and score in place of local processes."""
    pool: WorkerPool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = WorkerPool(self.resources, self.logs)

    def trainer(self) -> Trainer:
        """Return a trainer for jobs of every backend."""
        return TrainerClient(pool=self.pool, engines=self.engines)

    def scorer(self, training: Training) -> Scorer:
        """Return a scorer for models that were trained with these settings."""
        return ScorerClient(training=training, pool=self.pool, engines=self.engines)

    def sampler(self, sampling: Sampling) -> Sampler:
        """Return a sampler with these settings, in which `auto` must have been resolved."""
        return SamplerClient(sampling=sampling, pool=self.pool, engines=self.engines)

    def preload(self, training: Training, sampling: Sampling) -> None:
        """Start the processes that a run needs, so that their imports overlap with other work.

        Raises:
            HeirloomError: the site lacks a setting for the servers or the cluster; raised here, before any training.
        """
        api_key(sampling, self.resources)
        require_trackers(self.resources)
        require_local_models(sampling, self.resources)
        require_engine_arguments(self.resources)
        _require_gpus(self.resources, len(self.pool.gpus))
        if self.engines:
            self.engines.connect()
        self.pool.start_all(trainer_module(training))
        if not self.engines or sampling.sampler == "server":
            self.pool.start_all(SAMPLER_MODULES[sampling.sampler])

    def close(self) -> None:
        """Kill every process, including those at work."""
        self.pool.close()
        if self.engines:
            self.engines.close()


@dataclass
class _SharedBackends:
    backends: Backends
    num_users: int = 0


_open_backends: dict[tuple[Resources, Path], _SharedBackends] = {}
_open_backends_lock = threading.Lock()


@contextlib.contextmanager
def open_backends(resources: Resources, logs: Path, map_pieces: MapPieces | None = None) -> Iterator[Backends]:
    """Open the worker processes of a site. Users with the same resources and logs share them; the last one closes them.

    Args:
        resources: `[resources]` of the site.
        logs: Folder for the logs of the processes.
        map_pieces: Distributes calls over a Ray cluster. With it and `resources.ray`, engines there sample and score.
    """
    key = (resources, logs)
    with _open_backends_lock:
        if key not in _open_backends:
            engines = RayEngines(resources, logs, map_pieces) if resources.ray and map_pieces else None
            _open_backends[key] = _SharedBackends(Backends(resources, logs, engines))
        shared = _open_backends[key]
        shared.num_users += 1
    try:
        yield shared.backends
    finally:
        with _open_backends_lock:
            shared.num_users -= 1
            if not shared.num_users:
                del _open_backends[key]
                shared.backends.close()
