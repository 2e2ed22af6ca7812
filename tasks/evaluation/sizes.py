"""Number of texts that a generation is measured by: fixed, or in proportion to the candidates of a generation.

On one machine, scoring a token costs about as much as generating one, and sampling for evaluation costs exactly as
much. With `evaluate.sizing = "proportional"` the texts of a measurement are shares of the candidates, and samples for
evaluation are shared with the next generation where its candidates are sampled alike.
"""

from dataclasses import dataclass

from tasks.backends import Sampling
from tasks.context import StageRecipe

_SAMPLE_SHARE, _HELDOUT_SHARE, _CANDIDATE_SHARE = 0.04, 0.06, 0.03
"""Texts per candidate of a generation: together below 15 %, with room for loading the models."""
_MIN_TEXTS = 10
"""Texts of each kind at the least."""


@dataclass(frozen=True, kw_only=True)
class EvalSizes:
    """Number of texts that a generation is measured by."""

    samples: int
    """Unprompted samples of the model."""
    candidates: int
    """Candidates that are scored under the generation-0 model."""
    heldout: int | None = None
    """Texts of the held-out set, and of each eval set, that are scored; None: all."""
    shares_samples: bool = False
    """Whether the samples are the first candidates of the next generation."""


def eval_sizes(recipe: StageRecipe, num_human: int) -> EvalSizes:
    """Return the sizes for a recipe and its number of human training records.

    They are the same in every generation, so that metrics of generations can be compared.
    """
    settings, prompts = recipe.evaluate, recipe.prompts
    if settings.sizing != "proportional":
        return EvalSizes(samples=settings.num_samples, candidates=settings.embedding_sample_records)
    planned = max(1, round(prompts.prompts_per_human_record * num_human)) * prompts.completions_per_prompt
    shares_samples = prompts.template_name == "unconditional" and _samples_itself(recipe.generate)
    return EvalSizes(
        samples=min(settings.num_samples, planned if shares_samples else _share(planned, _SAMPLE_SHARE)),
        candidates=min(settings.embedding_sample_records, _share(planned, _CANDIDATE_SHARE)),
        heldout=_share(planned, _HELDOUT_SHARE),
        shares_samples=shares_samples,
    )


def _samples_itself(sampling: Sampling) -> bool:
    """Whether the model alone generates the candidates, each from its own seed, and without reasoning to store."""
    return sampling.model_names == ("",) and sampling.beam_width == 1 and not sampling.reasoning_parser


def _share(planned: int, share: float) -> int:
    return max(_MIN_TEXTS, round(share * planned))
