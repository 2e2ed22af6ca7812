from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion, Progress, Prompt
from tasks.backends.workers.pool import WorkerPool
from tasks.backends.workers.sampler_client import SamplerClient


@dataclass(frozen=True, kw_only=True)
class _Forgetful(SamplerClient):
    """Completes `good` by JSON, `late` from the second seed on, and `never` not at all."""

    def _sample(self, model: Path, prompts: Sequence[Prompt], progress: Progress) -> Iterator[Completion]:
        assert model
        for prompt in prompts:
            is_json = prompt.text == "good" or (prompt.text == "late" and prompt.seed != 2)
            yield Completion('{"a": 1}' if is_json else "no", "stop", 1, 2, None)
            progress(1, len(prompts))


def test_completions_that_violate_the_schema_are_sampled_again_within_a_bound(tmp_path: Path) -> None:
    sampling = Sampling(sampler="vllm", json_schema='{"type": "object", "required": ["a"]}', json_retries=3)
    client = _Forgetful(sampling=sampling, pool=WorkerPool(Resources(), tmp_path))
    prompts = [Prompt("good", 1), Prompt("late", 2), Prompt("never", 3)]
    good, late, never = client.sample(Path("model"), prompts, lambda *_: None)
    assert (good.finish_reason, good.num_retries, good.seed) == ("stop", 0, None)
    assert (late.finish_reason, late.num_retries) == ("stop", 1)
    assert late.seed not in (None, 2)
    assert (never.finish_reason, never.num_retries) == ("invalid_json", 3)
    again = list(client.sample(Path("model"), prompts, lambda *_: None))
    assert again == [good, late, never]
