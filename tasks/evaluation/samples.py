"""The voice of a model: a fixed number of texts that it says to be measured by, sampled as the run samples.

The continuation of one opening comes first. It is stored, and never trained on.
"""

import pyarrow as pa

from curation.metrics.settings import MeasureSettings
from storage.artifacts.artifact import Artifact
from storage.artifacts.ids import seed_of
from storage.artifacts.model_files import require_weights, speakable
from storage.artifacts.schemas import VOICE
from storage.runs.run import Attempt
from tasks.backends import Prompt, Sampling
from tasks.backends.registry import Backends
from tasks.orchestration.progress import stage


def listen(
    attempt: Attempt, model: Artifact, settings: MeasureSettings, sampling: Sampling, seed: int, backends: Backends
) -> Artifact:
    """Publish what the model says."""
    identity = {
        "prompt": settings.prompt,
        "records": settings.voice_records,
        "sampling": sampling.own.model_dump(mode="json"),
        "seed": seed,
    }
    voice = attempt.artifact("voice", identity, model=model)
    if voice.finished():
        return voice
    require_weights(model.folder)
    with voice.draft() as draft, stage(attempt, "listen") as told:
        prompts = [Prompt(settings.prompt, seed_of(seed, "showcase"))]
        prompts += [
            Prompt("", seed_of(seed, "voice", attempt.generation, place)) for place in range(settings.voice_records)
        ]
        answers = list(backends.sampler(sampling.own).sample(speakable(model), prompts, told))
        rows = [
            {"prompt": prompt.text, "text": prompt.text + answer.text, "seed": prompt.seed}
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        draft.write_part(pa.Table.from_pylist(rows, schema=VOICE))
        draft.facts = {"voice_tokens": sum(answer.completion_tokens for answer in answers)}
    return voice
