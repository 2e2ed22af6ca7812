"""Names and settings of the metrics of a generation.

Vocabulary metrics compare equal numbers of words of human and of synthetic text, so that a value changes with the
language and not with the size of the sample. Metrics whose cost is quadratic in texts use a sample, whose size is
stored with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, field_validator

from curation.user_code import METRICS as CUSTOM_METRICS
from curation.user_code import UserCode
from heirloom.settings import Settings

TEMPERATURES = (1.0, 0.7, 0.85, 1.2, 1.45, 1.75, 2.1, 2.6, 3.2, 4.0)
"""Temperatures to search for the best one; the first one is the model's own."""

_BY_STRATUM = tuple(
    f"{stratum}_{unit}_coverage" for unit in ("word", "bigram", "trigram") for stratum in ("hapax", "rare", "common")
)
METRICS = (
    *(
        "perplexity",
        "perplexity_at_best_temperature",
        "best_temperature",
        "bits_per_byte",
        "bits_per_byte_at_best_temperature",
    ),
    *("loss_change", "type_coverage_change", "rare_word_coverage_change", "type_coverage", *_BY_STRATUM),
    *(
        "vocabulary_retained",
        "hapax_share",
        "missing_mass",
        "vocabulary_size",
        "type_token",
        "entropy",
        "zipf_exponent",
    ),
    *("unigram_js_divergence", "bigram_js_divergence", "distinct_2", "distinct_3", "repetition", "compression_ratio"),
    *("embedding_precision", "embedding_recall", "embedding_density", "embedding_coverage"),
    *("vendi", "embedding_trace", "self_similarity", "mode_separation", "memorization_rate"),
    *("pass_at_1", "pass_at_k", "answer_entropy", "distinct_answers"),
    *(f"gen0_perplexity_q{quantile}" for quantile in ("01", "05", "25", "50", "75", "95", "99")),
)
"""Names of all metrics, described in docs/metrics.md. Results of `custom_metrics` are named `custom.NAME`."""


class EvalSettings(Settings):
    """`[evaluate]`: sizes of samples, and additional metrics."""

    num_samples: int = Field(500, ge=10, description="texts to sample from a model for evaluation")
    sizing: Literal["auto", "fixed", "proportional"] = Field(
        "auto",
        # Left out of dumps where sizes are fixed, so that fingerprints of older artifacts stay valid.
        exclude_if=lambda sizing: sizing != "proportional",
        description="number of texts that a generation is measured by: `fixed`, by the settings here and all held-out "
        "texts; `proportional`, shares of the candidates of a generation, where samples for evaluation are the first "
        "candidates of the next generation if those have no prompts; `auto`: proportional if the trained model is "
        "pretrained, else fixed",
    )
    vocab_sample_words: int = Field(
        30_000, ge=100, description="words of each side that vocabulary metrics are computed on"
    )
    showcase_prompt: str = Field(
        "Return the", description="prompt whose completion is stored for each generation, for comparison by eye"
    )
    eval_sets: tuple[str, ...] = Field(
        (), description="evaluation sets to measure perplexity on, too; their name is the `source` of the metrics"
    )
    num_sources: int = Field(
        8,
        ge=0,
        description="number of largest human sources with metrics of their own, if there are several sources",
    )
    embedding_sample_records: int = Field(
        500,
        ge=2,
        description="texts of each side for embedding metrics, perplexity under the generation-0 model, and the search "
        "for copies",
    )
    encoder: str = Field(
        "hashing",
        description="encoder for embedding metrics: hashing, numbers (points), minilm, or a sentence-transformers "
        "model",
    )
    answers_per_problem: int = Field(
        8,
        ge=1,
        # Left out of dumps at its default, so that fingerprints of older artifacts stay valid.
        exclude_if=lambda number: number == 8,
        description="answers to each held-out problem with a check, if the recipe has the filter checks",
    )
    custom_metrics: tuple[str, ...] = Field(
        (),
        description="your own functions, as `module:function` or `file.py:function`: each receives `texts`, or `model` "
        "(a "
        "folder), and returns numbers by name, which become metrics named `custom.NAME`, also for gate limits",
    )

    @field_validator("custom_metrics")
    @classmethod
    def _are_references(cls, references: tuple[str, ...]) -> tuple[str, ...]:
        for reference in references:
            CUSTOM_METRICS.resolve(reference)
        return references

    def user_code(self) -> list[UserCode]:
        """The user's metrics. Nothing is imported here."""
        return [UserCode(CUSTOM_METRICS, reference) for reference in self.custom_metrics]

    def resolve_auto(self, stored: Mapping[str, object] | None, *, is_pretrained: bool) -> Self:
        """Return the settings with `auto` replaced: as stored with the run, or by the model that is trained."""
        sizing = "proportional" if is_pretrained else "fixed"
        if stored is not None:
            # Only `proportional` is stored.
            sizing = str(stored.get("sizing", "fixed"))
        return self if self.sizing != "auto" else self.model_copy(update={"sizing": sizing})


@dataclass(frozen=True)
class Measured:
    """Value of one metric; `low` and `high` are its confidence interval, if it has one (docs/metrics.md)."""

    metric: str
    value: float
    low: float | None
    high: float | None
    sample_size: int
