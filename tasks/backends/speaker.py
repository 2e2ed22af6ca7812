"""Prompts to one process or to many, and completions back in the order of the prompts.

Prompts are dealt out one by one in turn, so that processes end together and the order needs no waiting. A text follows from its
prompt and its seed, so it does not matter how many there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.backends import Completion, Progress, Prompt, Sampling
from tasks.backends.structure import marker

if TYPE_CHECKING:
    from tasks.backends.pool import Backends

MODULES = {"vllm": "vllm_engine", "server": "server", "transformers": "transformer", "ngram": "ngram"}
"""Sampler: the backend module that speaks in a worker process."""

_SHARE = 64
"""Prompts below which another process is not worth its start."""


@dataclass(frozen=True)
class Speaker:
    """Samples in worker processes of the sampler's module."""

    backends: "Backends"
    sampling: Sampling

    def sample(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        """Yield one completion a prompt, in order; those that break the schema are marked."""
        marked = marker(self.sampling.json_schema)
        yield from map(marked, self._spoken(model, prompts, progress))

    def _spoken(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        module, resources = self._module(), self.backends.resources
        # Servers of the site are many already, and asked together by one process.
        most = 1 if module == "server" and (self.sampling.teacher or resources.servers) else len(prompts) // _SHARE
        done: dict[int, int] = {}

        def told(place: int) -> Progress:
            def tell(some: int, _: int) -> None:
                done[place] = some
                progress(sum(done.values()), len(prompts))

            return tell

        with self.backends.lease_some(module, model, max(1, most)) as workers:
            ended = False
            try:
                streams = [
                    worker.stream(
                        "sample", told(place), self.sampling, resources, model, prompts[place :: len(workers)]
                    )
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

    def _module(self) -> str:
        return "server" if self.sampling.teacher else MODULES[self.sampling.sampler]
