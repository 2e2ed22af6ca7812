"""Sample a fixed number of texts from a model for evaluation, with the run's sampling settings.

The first sample is the completion of the showcase prompt; the others have no prompt. No model is trained on them.
"""

import pyarrow as pa

from storage.artifacts.artifact import Artifact
from storage.artifacts.ids import derive_seed
from storage.artifacts.model_files import ensure_loadable, require_weights
from storage.artifacts.schemas import EVAL_SAMPLES
from tasks.backends import Prompt
from tasks.backends.settings.capabilities import own_model_sampling
from tasks.context import StageContext
from tasks.orchestration.progress import progress


def sample_for_eval(ctx: StageContext, model: Artifact) -> Artifact:
    """Publish the eval samples of a model."""
    attempt, settings, seed = ctx.attempt, ctx.recipe.evaluate, ctx.recipe.seed
    sampling = own_model_sampling(ctx.recipe.generate)
    identity = {
        "prompt": settings.showcase_prompt,
        "records": settings.num_samples,
        "sampling": sampling.model_dump(mode="json"),
        "seed": seed,
    }
    samples = attempt.artifact("eval_samples", identity, model=model)
    if samples.exists():
        return samples
    require_weights(model.folder)
    with samples.draft() as draft, progress(attempt, "sample_for_eval") as report:
        prompts = [Prompt(settings.showcase_prompt, derive_seed(seed, "showcase"))]
        prompts += [
            Prompt("", derive_seed(seed, "voice", attempt.generation, number)) for number in range(settings.num_samples)
        ]
        completions = list(ctx.backends.sampler(sampling).sample(ensure_loadable(model), prompts, report))
        rows = [
            {"prompt": prompt.text, "text": prompt.text + completion.text, "seed": prompt.seed}
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        draft.write_part(pa.Table.from_pylist(rows, schema=EVAL_SAMPLES))
        draft.facts = {"eval_sample_tokens": sum(completion.completion_tokens for completion in completions)}
    return samples
