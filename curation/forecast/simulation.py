"""Forecast the effect of a recipe's mixing and sampling on the vocabulary by simulating a loop over word counts.

The simulated model fits the word shares of its corpus exactly and samples words independently. So the forecast includes
the losses by chance, mix policy and sampling settings, but not by curation or by errors of a real model. Temperature
and top-p act on word shares here, but on next-token distributions in a real model: the forecast gets the direction of
their effect right, not its size. docs/forecast.md compares forecasts with measurements. With `replace`, the survival of
a type follows `curation.forecast.closed_form.type_survival`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.metrics.coverage import STRATA, js_divergence, ngram_coverage
from curation.metrics.lexical_diversity import entropy
from curation.metrics.ngram_counts import Counts
from curation.mixing import MixSettings

FORECAST_METRICS = (
    "type_coverage",
    "hapax_word_coverage",
    "rare_word_coverage",
    "common_word_coverage",
    "entropy",
    "unigram_js_divergence",
)
_NUM_SIMULATIONS = 5


@dataclass(frozen=True)
class ForecastPoint:
    """One metric of one generation: mean, minimum and maximum over five simulations."""

    generation: int
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LoopSpec:
    """The settings of a recipe that the vocabulary depends on."""

    mix: MixSettings
    prompts_per_human_record: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True, kw_only=True)
class HumanWords:
    """The words of the human text."""

    train: Counts
    """Occurrences of each word in the human training records, shape (words,)."""
    sample: Counts
    """The same in the human sample that metrics compare with, shape (words,); the model's sample has as many words."""
    num_records: int
    """Number of human training records."""


def simulate_forecast(human: HumanWords, loop: LoopSpec, generations: Sequence[int], seed: int) -> list[ForecastPoint]:
    """Forecast the vocabulary metrics of some generations, as evaluation would measure them.

    Args:
        human: the words that the loop starts from.
        loop: mixing and sampling settings.
        generations: the generations to forecast.
        seed: of the simulations.
    """
    values_of: dict[tuple[int, str], list[float]] = {}
    for simulation in range(_NUM_SIMULATIONS):
        rng = np.random.default_rng((seed, simulation))
        for generation, shares in enumerate(_simulate_loop(human, loop, max(generations), rng)):
            if generation in generations:
                model_sample = rng.multinomial(int(human.sample.sum()), shares)
                for metric, value in zip(FORECAST_METRICS, _metrics(human.sample, model_sample), strict=True):
                    values_of.setdefault((generation, metric), []).append(value)
    return [
        ForecastPoint(generation, metric, float(np.mean(values)), float(min(values)), float(max(values)))
        for (generation, metric), values in values_of.items()
    ]


def _metrics(sample: Counts, model_sample: Counts) -> tuple[float, ...]:
    """Return the values of `FORECAST_METRICS`."""
    strata = [ngram_coverage(sample, model_sample, STRATA[name]) for name in ("hapax", "rare", "common")]
    coverage = ngram_coverage(sample, model_sample)
    return (coverage, *strata, entropy(model_sample), js_divergence(sample, model_sample))


def _simulate_loop(
    words: HumanWords, loop: LoopSpec, last_generation: int, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Return the word shares of each generation's model, generation 0 first."""
    human, num_records = words.train, words.num_records
    num_words, corpus, pool = int(human.sum()), human, human
    generated_words = round(num_words * loop.prompts_per_human_record)
    corpus_words = round(num_words * (loop.mix.num_records or num_records) / max(1, num_records))
    shares = [_model_shares(corpus, loop)]
    for generation in range(1, last_generation + 1):
        newest = rng.multinomial(generated_words, shares[-1])
        pool = pool + newest
        weights = loop.mix.for_generation(generation).mixture_weights
        if loop.mix.policy == "replace":
            corpus = newest
        elif loop.mix.policy == "accumulate":
            corpus = pool
        elif loop.mix.policy == "anchor":
            corpus = human + newest
        elif loop.mix.policy == "accumulate-subsample":
            corpus = _draw_words(rng, pool, corpus_words)
        elif weights:
            parts = [
                _draw_words(rng, counts, round(corpus_words * weight))
                for counts, weight in zip((newest, corpus, human), weights[0], strict=True)
            ]
            corpus = np.sum(parts, axis=0)
        else:
            human_words = min(num_words, round(corpus_words * (loop.mix.human_fraction or 0)))
            drawn_human = _draw_words(rng, human, human_words)
            corpus = drawn_human + _draw_words(rng, newest, corpus_words - human_words)
        shares.append(_model_shares(corpus, loop))
    return shares


def _draw_words(rng: np.random.Generator, counts: Counts, size: int) -> Counts:
    """Draw `size` words, or all if there are fewer, without replacement."""
    return rng.multivariate_hypergeometric(counts, min(size, int(counts.sum())), method="marginals")


def _model_shares(corpus: Counts, loop: LoopSpec) -> NDArray[np.float64]:
    """Return the probability of each word under a model of the corpus, with the sampling settings applied."""
    shares = (corpus / max(1, corpus.max())) ** (1 / max(loop.temperature, 1e-3))
    shares /= shares.sum()
    if loop.top_p < 1:
        order = np.argsort(-shares, kind="stable")
        mass_before = np.cumsum(shares[order]) - shares[order]
        shares[order[mass_before >= loop.top_p]] = 0
        shares /= shares.sum()
    return np.asarray(shares)
