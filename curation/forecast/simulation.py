"""What a recipe's mixing and sampling will do to a vocabulary, before anything is trained: a loop over counts of words.

The model is one that learns the shares of its corpus exactly and says each word by itself, so what is foretold is what chance, policy and
sampling alone take; curation and what a real model gets wrong come on top. Temperature and nucleus act on shares of words, where a real
model applies them to its next-token distributions: cold sampling is foretold in kind, not in size. docs/forecast.md
compares it with what was measured. The simulated law of survival is `curation.forecast.type_survival`.
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
_COURSES = 5


@dataclass(frozen=True)
class ForecastPoint:
    """One metric of one generation's voice: the mean of five simulated courses, and the least and most of them."""

    generation: int
    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LoopSpec:
    """What of a recipe a vocabulary depends on."""

    mix: MixSettings
    prompts_per_human_record: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0


def simulate_forecast(
    human: Counts, sample: Counts, records: int, loop: LoopSpec, generations: Sequence[int], seed: int
) -> list[ForecastPoint]:
    """Metrics of what the models of some generations will say, as `measure` would publish them.

    Args:
        human: how often each word stands in the reserve, shape (words,).
        sample: the same in the part of it that is measured against, shape (words,); as many words are listened to.
        records: records of the reserve.
        loop: mixing and sampling.
        generations: which ones to tell of.
        seed: of the dice.
    """
    told: dict[tuple[int, str], list[float]] = {}
    for course in range(_COURSES):
        rng = np.random.default_rng((seed, course))
        for generation, shares in enumerate(_course(human, records, loop, max(generations), rng)):
            if generation in generations:
                voice = rng.multinomial(int(sample.sum()), shares)
                for metric, value in zip(FORECAST_METRICS, _metrics(sample, voice), strict=True):
                    told.setdefault((generation, metric), []).append(value)
    return [
        ForecastPoint(*key, float(np.mean(values)), float(min(values)), float(max(values)))
        for key, values in told.items()
    ]


def _metrics(sample: Counts, voice: Counts) -> tuple[float, ...]:
    strata = (ngram_coverage(sample, voice, *STRATA[name]) for name in ("hapax", "rare", "common"))
    return (ngram_coverage(sample, voice), *strata, entropy(voice), js_divergence(sample, voice))


def _course(
    human: Counts, records: int, loop: LoopSpec, last: int, rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """What each generation's model says: shares of words, generation 0 first."""
    words, corpus, pool = int(human.sum()), human, human
    spoken = round(words * loop.prompts_per_human_record)
    size = round(words * (loop.mix.num_records or records) / max(1, records))
    told = [_shaped(corpus, loop)]
    for generation in range(1, last + 1):
        newest = rng.multinomial(spoken, told[-1])
        pool = pool + newest
        if loop.mix.policy == "replace":
            corpus = newest
        elif loop.mix.policy == "accumulate":
            corpus = pool
        elif loop.mix.policy == "anchor":
            corpus = human + newest
        elif loop.mix.policy == "accumulate-subsample":
            corpus = _some(rng, pool, size)
        elif triple := loop.mix.for_generation(generation).mixture_weights:
            parts = zip((newest, corpus, human), triple[0], strict=True)
            corpus = np.sum([_some(rng, words_of, round(size * share)) for words_of, share in parts], axis=0)
        else:
            kept = min(words, round(size * (loop.mix.human_fraction or 0)))
            corpus = _some(rng, human, kept) + _some(rng, newest, size - kept)
        told.append(_shaped(corpus, loop))
    return told


def _some(rng: np.random.Generator, counts: Counts, size: int) -> Counts:
    """So many of the words, or all there are, none put back."""
    return rng.multivariate_hypergeometric(counts, min(size, int(counts.sum())), method="marginals")


def _shaped(corpus: Counts, loop: LoopSpec) -> NDArray[np.float64]:
    """What a model of the corpus says of each word, with these sampling settings."""
    shares = (corpus / max(1, corpus.max())) ** (1 / max(loop.temperature, 1e-3))
    shares /= shares.sum()
    if loop.top_p < 1:
        order = np.argsort(-shares, kind="stable")
        before = np.cumsum(shares[order]) - shares[order]
        shares[order[before >= loop.top_p]] = 0
        shares /= shares.sum()
    return np.asarray(shares)
