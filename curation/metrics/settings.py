"""What is measured of a generation, by which names, and how much is looked at.

Everything about vocabulary is compared at one size: the same number of words of human text and of what a
model says, so that a number moves because the language does and not because the sample grew. What is quadratic in texts is
measured on a sample, whose size is published with it.
"""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

TEMPERATURES = (1.0, 0.7, 0.85, 1.2, 1.45, 1.75, 2.1, 2.6, 3.2, 4.0)
"""Where recalibration looks; the first one is the model as it is."""

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
    *(f"gen0_perplexity_q{quantile}" for quantile in ("01", "05", "25", "50", "75", "95", "99")),
)
"""Every name that is published, in docs/metrics.md with what it means; what `own` functions return is `custom.NAME`."""


class EvalSettings(BaseModel):
    """`[evaluate]`: how much is looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_samples: int = Field(500, ge=10, description="texts a model says when it is measured; never trained on")
    vocab_sample_words: int = Field(30_000, ge=100, description="words that vocabulary metrics are counted on")
    showcase_prompt: str = Field(
        "Return the", description="opening whose continuation is kept for each generation, to be read side by side"
    )
    eval_sets: tuple[str, ...] = Field(
        (), description="evaluation sets that perplexity is measured on too; `source` in the metrics is the set's name"
    )
    num_sources: int = Field(
        8,
        ge=0,
        description="largest sources of human text that are measured by themselves too, where there are several",
    )
    embedding_sample_records: int = Field(
        500,
        ge=2,
        description="texts of each kind that are compared as vectors, scored by generation 0's model, searched for copies",
    )
    encoder: str = Field(
        "hashing",
        description="who turns text into vectors to be measured: hashing, numbers (points), minilm, or a sentence-transformers model",
    )
    custom_metrics: tuple[str, ...] = Field(
        (),
        description="functions of yours, as `module:function` or `file.py:function`: given `texts`, or `model` (a folder), "
        "each returns numbers by name, which are published and can be limited as `custom.NAME`",
    )


@dataclass(frozen=True)
class Measured:
    """One metric; `low` and `high` are a 95 % interval where one is known."""

    metric: str
    value: float
    low: float | None
    high: float | None
    sample_size: int
