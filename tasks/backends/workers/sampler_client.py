"""Sample in one or several worker processes, or on the engines of a Ray cluster, in the order of the prompts.

Prompts are dealt round-robin, so that processes finish together and the order is restored without buffering. A
completion depends on its prompt and its seed alone, so the number of processes does not change it.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from heirloom.errors import HeirloomError
from tasks.backends.inference.json_schema import INVALID, invalid_json_marker
from tasks.backends.models.pretrained import resolve_model
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion, Progress, Prompt
from tasks.backends.workers.pool import WorkerPool
from tasks.backends.workers.ray_cluster import RayEngines

SAMPLER_MODULES = {
    "vllm": "vllm_engine",
    "server": "server",
    "transformers": "transformer",
    "ngram": "ngram",
    "gaussian-mixture": "gaussian_mixture",
    "vae": "vae",
}
"""`generate.sampler`: name of the backend module that samples."""
_TOY_MODEL_FILES = {"ngram.json": "ngram", "mixture.json": "gaussian-mixture", "vae.safetensors": "vae"}
"""Model file of a toy backend: its sampler."""

_PROMPTS_PER_CALL = 1024
"""Prompts of one call to an engine of a cluster; sampling them takes ten seconds or more."""
_MIN_PROMPTS_PER_WORKER = 64
"""With fewer prompts, starting one more process takes longer than it saves."""


@dataclass(frozen=True, kw_only=True)
class SamplerClient:
    """A `Sampler` that samples in worker processes, or on engines of a cluster."""

    sampling: Sampling
    pool: WorkerPool
    engines: RayEngines | None = None

    def sample(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        """Yield one completion for each prompt, in order.

        A prompt whose completion violates the JSON schema is sampled again with other seeds, `json_retries` times at
        most. The finish reason of a completion that violates it even then is `invalid_json`.

        Raises:
            HeirloomError: the model cannot be sampled with these settings.
            WorkerError: a process failed.
        """
        if not self.sampling.json_schema:
            yield from self._sample(model, prompts, progress)
            return
        mark_invalid = invalid_json_marker(self.sampling.json_schema)
        for start in range(0, len(prompts), _PROMPTS_PER_CALL):
            batch = prompts[start : start + _PROMPTS_PER_CALL]
            report = _offset_progress(progress, start, len(prompts))
            completions = [mark_invalid(completion) for completion in self._sample(model, batch, report)]
            for number in range(1, self.sampling.json_retries + 1):
                invalid = [place for place, each in enumerate(completions) if each.finish_reason == INVALID]
                again = [replace(batch[place], seed=_retry_seed(batch[place].seed, number)) for place in invalid]
                for place, prompt, completion in zip(
                    invalid, again, self._sample(model, again, report) if again else (), strict=True
                ):
                    completions[place] = replace(mark_invalid(completion), num_retries=number, seed=prompt.seed)
            yield from completions

    def _sample(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        teacher = self.sampling.teacher
        if teacher and (name := self.pool.resources.local_model(teacher)):
            folder = resolve_model(name)
            module = sampler_module(folder, self.sampling)
            label = f"{teacher}:{weights_hash(folder)}"
            local = replace(self, sampling=self.sampling.without_teacher)
            for completion in local._sample_module(module, folder, prompts, progress):  # noqa: SLF001
                yield replace(completion, teacher=label)
        else:
            module = "server" if teacher else SAMPLER_MODULES[self.sampling.sampler]
            yield from self._sample_module(module, model, prompts, progress)

    def _sample_module(
        self, module: str, model: Path, prompts: Sequence[Prompt], progress: Progress
    ) -> Iterator[Completion]:
        resources = self.pool.resources
        if self.engines and module != "server":
            pieces = [prompts[start : start + _PROMPTS_PER_CALL] for start in range(0, len(prompts), _PROMPTS_PER_CALL)]
            calls = [(self.sampling, resources, model.resolve(), piece) for piece in pieces]
            yield from self.engines.map(module, "sample", calls, len(prompts), progress)
            return
        # One process sends requests to all servers of the site together.
        uses_site_servers = module == "server" and (self.sampling.teacher or resources.server_urls)
        max_workers = 1 if uses_site_servers else max(1, len(prompts) // _MIN_PROMPTS_PER_WORKER)
        sum_progress = _SummedProgress(progress, len(prompts))
        with self.pool.lease_many(module, model, max_workers) as workers:
            finished = False
            try:
                streams = []
                for index, worker in enumerate(workers):
                    share = prompts[index :: len(workers)]
                    report = sum_progress.part(index)
                    streams.append(worker.stream("sample", report, self.sampling, resources, model, share))
                completions = [chain.from_iterable(stream) for stream in streams]
                for index in range(len(prompts)):
                    yield next(completions[index % len(workers)])
                # Receive the message that ends each call, or the next call would take it for its own.
                for stream in streams:
                    next(stream, None)
                finished = True
            finally:
                # After a refusal or an early close, the other processes still send completions of this call.
                if not finished:
                    for worker in workers:
                        worker.close()


def _retry_seed(seed: int, number: int) -> int:
    """Return the seed of another completion of a prompt."""
    return int.from_bytes(hashlib.sha256(f"{seed} retry {number}".encode()).digest()[:4]) >> 1


def _offset_progress(progress: Progress, num_done: int, total: int) -> Progress:
    def report(done: int, _: int) -> None:
        progress(num_done + done, total)

    return report


class _SummedProgress:
    """Reports the sum of what several processes have finished."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._done: dict[int, int] = {}

    def part(self, index: int) -> Progress:
        """Return the progress callback of one process."""

        def report(done: int, _: int) -> None:
            self._done[index] = done
            self._progress(sum(self._done.values()), self._total)

        return report


def sampler_module(folder: Path, sampling: Sampling) -> str:
    """Return the backend module for the model in a folder.

    The module of the recipe's sampler, unless that is a toy and the model is a transformer: then vLLM if installed.

    Raises:
        HeirloomError: the folder contains no model.
    """
    for file_name, toy in _TOY_MODEL_FILES.items():
        if (folder / file_name).is_file():
            return SAMPLER_MODULES[toy]
    if not (folder / "config.json").is_file():
        raise HeirloomError(
            f"{folder} is not a model. Expected a folder with config.json and weights, or with one of "
            f"{', '.join(_TOY_MODEL_FILES)}."
        )
    if sampling.sampler in _TOY_MODEL_FILES.values():
        return SAMPLER_MODULES["vllm" if importlib.util.find_spec("vllm") else "transformers"]
    return SAMPLER_MODULES[sampling.sampler]


def weights_hash(folder: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 over the digests of all weight files of a model."""
    toy_files = [folder / name for name in _TOY_MODEL_FILES if name.endswith(".json")]
    weight_files = [*sorted(folder.glob("*.safetensors")), *(path for path in toy_files if path.is_file())]
    digest = hashlib.sha256()
    for path in weight_files:
        with path.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]
