"""Prompts to one process or to many, here or on a cluster, and completions back in the order of the prompts.

Prompts are dealt out one by one in turn, so that processes end together and the order needs no waiting. A text follows from its
prompt and its seed, so it does not matter how many there are.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from heirloom.errors import HeirloomError
from tasks.backends.inference.json_schema import invalid_json_marker
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion, Progress, Prompt

if TYPE_CHECKING:
    from tasks.backends.registry import Backends

SAMPLER_MODULES = {"vllm": "vllm_engine", "server": "server", "transformers": "transformer"}
SAMPLER_MODULES |= {"ngram": "ngram", "gaussian-mixture": "gaussian_mixture", "vae": "vae"}
"""Sampler: the backend module that speaks in a worker process."""
_TOYS = {"ngram.json": "ngram", "mixture.json": "gaussian-mixture", "vae.safetensors": "vae"}
"""File that a toy's model lies in: who speaks for it."""

_PIECE = 1024
"""Prompts that an engine of a cluster is asked at a time: a part of candidates, ten seconds and more of speaking."""
_SHARE = 64
"""Prompts below which another process is not worth its start."""


@dataclass(frozen=True)
class SamplerClient:
    """Samples in worker processes of the sampler's module, or on engines of a cluster."""

    backends: "Backends"
    sampling: Sampling

    def sample(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        """Yield one completion a prompt, in order; those that break the schema are marked."""
        marked = invalid_json_marker(self.sampling.json_schema)
        yield from map(marked, self._spoken(model, prompts, progress))

    def _spoken(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        resources, teacher = self.backends.resources, self.sampling.teacher
        if folder := resources.model_folder(teacher):
            module, name = sampler_module(folder, self.sampling), f"{teacher}:{weights_hash(folder)}"
            said = self._spoken_by(module, self.sampling.without_teacher, folder.resolve(), prompts, progress)
            yield from (replace(one, teacher=name) for one in said)
        else:
            module = "server" if teacher else SAMPLER_MODULES[self.sampling.sampler]
            yield from self._spoken_by(module, self.sampling, model, prompts, progress)

    def _spoken_by(
        self, module: str, sampling: Sampling, model: Path, prompts: Sequence[Prompt], progress: Progress
    ) -> Iterator[Completion]:
        resources, engines = self.backends.resources, self.backends.engines
        if engines and module != "server":
            pieces = [prompts[start : start + _PIECE] for start in range(0, len(prompts), _PIECE)]
            asked = [(sampling, resources, model.resolve(), some) for some in pieces]
            yield from engines.map(module, "sample", asked, len(prompts), progress)
            return
        # Servers of the site are many already, and asked together by one process.
        most = 1 if module == "server" and (sampling.teacher or resources.server_urls) else len(prompts) // _SHARE
        done: dict[int, int] = {}

        def told(place: int) -> Progress:
            def tell(some: int, _: int) -> None:
                done[place] = some
                progress(sum(done.values()), len(prompts))

            return tell

        with self.backends.lease_many(module, model, max(1, most)) as workers:
            ended = False
            try:
                streams = [
                    worker.stream("sample", told(place), sampling, resources, model, prompts[place :: len(workers)])
                    for place, worker in enumerate(workers)
                ]
                spoken = [chain.from_iterable(stream) for stream in streams]
                for place in range(len(prompts)):
                    yield from (one for one in [next(spoken[place % len(workers)], None)] if one)
                for stream in spoken:
                    next(stream, None)
                ended = True
            finally:
                if not ended:
                    for worker in workers:
                        worker.close()


def sampler_module(folder: Path, sampling: Sampling) -> str:
    """Who can speak for the model in a folder: the recipe's sampler, or whoever is installed where that is of another kind.

    Raises:
        HeirloomError: there is no model in it.
    """
    for name, toy in _TOYS.items():
        if (folder / name).is_file():
            return SAMPLER_MODULES[toy]
    if not (folder / "config.json").is_file():
        raise HeirloomError(
            f"{folder} is no model: expected a folder with config.json and weights, or with {', '.join(_TOYS)}"
        )
    installed = "vllm" if importlib.util.find_spec("vllm") else "transformers"
    return SAMPLER_MODULES[installed if sampling.sampler in _TOYS.values() else sampling.sampler]


def weights_hash(folder: Path) -> str:
    """Sixteen digits of the digest of the weights in a folder: which model it was."""
    weights = [
        *sorted(folder.glob("*.safetensors")),
        *(folder / name for name in _TOYS if (folder / name).suffix == ".json" and (folder / name).is_file()),
    ]
    found = hashlib.sha256()
    for path in weights:
        with path.open("rb") as content:
            found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()[:16]
