"""The voice of a model: a fixed number of texts that it says to be measured by, sampled as the run samples.

The continuation of one opening comes first. It is stored, and never trained on.
"""

import pyarrow as pa

from storage.artifacts.artifact import Artifact
from storage.artifacts.ids import derive_seed
from storage.artifacts.model_files import ensure_loadable, require_weights
from storage.artifacts.schemas import EVAL_SAMPLES
from tasks.backends import Prompt
from tasks.context import StageContext
from tasks.orchestration.progress import progress


def sample_for_eval(ctx: StageContext, model: Artifact) -> Artifact:
    """Publish what the model says."""
    attempt, settings, sampling, seed = ctx.attempt, ctx.recipe.evaluate, ctx.recipe.generate, ctx.recipe.seed
    identity = {
        "prompt": settings.showcase_prompt,
        "records": settings.num_samples,
        "sampling": sampling.without_teacher.model_dump(mode="json"),
        "seed": seed,
    }
    voice = attempt.artifact("eval_samples", identity, model=model)
    if voice.exists():
        return voice
    require_weights(model.folder)
    with voice.draft() as draft, progress(attempt, "sample_for_eval") as told:
        prompts = [Prompt(settings.showcase_prompt, derive_seed(seed, "showcase"))]
        prompts += [
            Prompt("", derive_seed(seed, "voice", attempt.generation, place)) for place in range(settings.num_samples)
        ]
        answers = list(ctx.backends.sampler(sampling.without_teacher).sample(ensure_loadable(model), prompts, told))
        rows = [
            {"prompt": prompt.text, "text": prompt.text + answer.text, "seed": prompt.seed}
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        draft.write_part(pa.Table.from_pylist(rows, schema=EVAL_SAMPLES))
        draft.facts = {"eval_sample_tokens": sum(answer.completion_tokens for answer in answers)}
    return voice
