"""Sample texts from a model for evaluation, with the run's sampling settings.

The first sample is the completion of the showcase prompt; the others have no prompt. No model is trained on them,
unless they are shared with the next generation: then they have the seeds of its first candidates, which take their
completions.
"""

from collections.abc import Mapping

import pyarrow as pa

from storage.artifacts.artifact import MANIFEST, Artifact, load_artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.model_files import ensure_loadable, require_weights
from storage.artifacts.schemas import EVAL_SAMPLES
from storage.runs.run import Attempt
from tasks.backends import Completion, Prompt, Sampling
from tasks.backends.settings.capabilities import own_model_sampling
from tasks.context import StageContext, attempt_seed
from tasks.evaluation.sizes import EvalSizes
from tasks.orchestration.progress import log_showcase, progress

SHARED_WITH = "shared_with_generation"
"""Setting of eval samples that are candidates of the next generation."""


def sample_for_eval(ctx: StageContext, model: Artifact, sizes: EvalSizes) -> Artifact:
    """Publish the eval samples of a model."""
    attempt, settings, seed = ctx.attempt, ctx.recipe.evaluate, ctx.recipe.seed
    sampling = own_model_sampling(ctx.recipe.generate)
    identity = {
        "prompt": settings.showcase_prompt,
        "records": sizes.samples,
        "sampling": sampling.model_dump(mode="json"),
        "seed": seed,
    }
    if sizes.shares_samples:
        identity[SHARED_WITH] = attempt.generation + 1
    samples = attempt.artifact("eval_samples", identity, model=model)
    if samples.exists():
        return samples
    require_weights(model.folder)
    with samples.draft() as draft, progress(attempt, "sample_for_eval") as report:
        prompts = [Prompt(settings.showcase_prompt, derive_seed(seed, "showcase"))]
        prompts += [Prompt("", sample_seed) for sample_seed in _seeds(ctx, sizes)]
        completions = list(ctx.backends.sampler(sampling).sample(ensure_loadable(model), prompts, report))
        rows = [
            {
                "prompt": prompt.text,
                "text": prompt.text + completion.text,
                "seed": prompt.seed,
                "finish_reason": completion.finish_reason,
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
                "sum_logprob": completion.sum_logprob,
            }
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        draft.write_part(pa.Table.from_pylist(rows, schema=EVAL_SAMPLES))
        draft.facts = {"eval_sample_tokens": sum(completion.completion_tokens for completion in completions)}
    if settings.showcase_prompt:
        log_showcase(attempt, settings.showcase_prompt, prompts[0].text + completions[0].text)
    return samples


def shared_completions(model: Artifact, sampling: Sampling) -> Mapping[int, Completion]:
    """Return the unprompted eval samples of a model that are candidates of the next generation, by seed.

    Empty if they were not sampled to be shared, or from another model or with other settings.
    """
    folder = model.folder.with_name("eval_samples")
    if not (folder / MANIFEST).exists():
        return {}
    samples = load_artifact(folder)
    if (
        SHARED_WITH not in samples.settings
        or samples.settings["sampling"] != sampling.without_teacher.model_dump(mode="json")
        or samples.parents["model"] != model.fingerprint
    ):
        return {}
    # The first one completes the showcase prompt.
    rows = read_table(folder).to_pylist()[1:]
    return {
        row["seed"]: Completion(
            text=row["text"],
            finish_reason=row["finish_reason"],
            prompt_tokens=row["prompt_tokens"],
            completion_tokens=row["completion_tokens"],
            sum_logprob=row["sum_logprob"],
        )
        for row in rows
    }


def _seeds(ctx: StageContext, sizes: EvalSizes) -> list[int]:
    seed, attempt = ctx.recipe.seed, ctx.attempt
    if sizes.shares_samples:
        following = Attempt(attempt.run, attempt.generation + 1)
        return [attempt_seed(seed, following, "candidate", number) for number in range(sizes.samples)]
    return [derive_seed(seed, "voice", attempt.generation, number) for number in range(sizes.samples)]
