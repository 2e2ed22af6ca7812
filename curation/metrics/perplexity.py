"""Compute perplexities: of held-out human text under a model, and of a model's samples under the generation-0 model."""

import math

import numpy as np
from numpy.typing import NDArray

from curation.metrics.bootstrap import Interval, bootstrap
from curation.metrics.settings import TEMPERATURES, Measured

Numbers = NDArray[np.float64]
Tokens = NDArray[np.int64]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_QUANTILE_RESAMPLES = 200


def perplexities(nll: Numbers, tokens: Tokens, num_bytes: int, seed: int) -> list[Measured]:
    """Return the held-out perplexity and bits per byte of a model, at temperature 1 and at the best single temperature.

    Perplexity is exp(total nats / total tokens). Intervals are 95 %, by a bootstrap over texts.

    Args:
        nll: negative log-likelihood of each text at each of `TEMPERATURES`, shape (texts, temperatures).
        tokens: tokens of each text, shape (texts,).
        num_bytes: UTF-8 bytes of all texts.
        seed: of the bootstrap over texts.
    """
    total = int(tokens.sum())
    losses = nll.sum(0) / total
    best = int(losses.argmin())

    def perplexity(metric: str, temperature: int) -> Measured:
        rows = np.stack([nll[:, temperature], tokens.astype(np.float64)], 1)
        low, high = bootstrap(rows, seed, statistic=lambda means: np.exp(means[:, 0] / means[:, 1]))
        return Measured(metric, float(np.exp(losses[temperature])), low, high, len(tokens))

    def bits(metric: str, temperature: int) -> Measured:
        return Measured(metric, float(nll[:, temperature].sum() / math.log(2) / num_bytes), None, None, len(tokens))

    return [
        perplexity("perplexity", 0),
        perplexity("perplexity_at_best_temperature", best),
        Measured("best_temperature", TEMPERATURES[best], None, None, len(tokens)),
        bits("bits_per_byte", 0),
        bits("bits_per_byte_at_best_temperature", best),
    ]


def paired_loss_difference(baseline: Numbers, current: Numbers, tokens: Tokens, seed: int) -> Measured:
    """Return the held-out loss minus that of the generation-0 model, in nats per token, with a 99 % interval.

    Paired bootstrap over texts.

    Args:
        baseline: nats of each text under the generation-0 model, shape (texts,).
        current: nats of the same texts under this model, shape (texts,).
        tokens: tokens of each text, the same under both models, shape (texts,).
        seed: of the bootstrap.
    """
    rows = np.stack([current - baseline, tokens.astype(np.float64)], 1)
    low, high = bootstrap(rows, seed, 0.99, statistic=lambda means: means[:, 0] / means[:, 1])
    return Measured("loss_change", float((current - baseline).sum() / tokens.sum()), low, high, len(tokens))


def perplexity_quantiles(nll: Numbers, tokens: Tokens, seed: int) -> list[Measured]:
    """Return quantiles of the texts' perplexity under the generation-0 model, with 95 % intervals.

    Collapse shows at both ends: probability mass moves to likely texts, and a tail of texts appears that people would
    not write (Shumailov et al. 2024).

    Args:
        nll: nats of each text, shape (texts,).
        tokens: tokens of each text, shape (texts,).
        seed: of the bootstrap.
    """
    if not len(tokens):
        return []
    text_perplexities = np.exp(nll / np.maximum(1, tokens))
    size = len(text_perplexities)
    rng = np.random.default_rng(seed)
    resamples = text_perplexities[rng.integers(0, size, (_QUANTILE_RESAMPLES, size))]
    resampled_quantiles = np.quantile(resamples, QUANTILES, axis=1)
    measured = []
    for resampled, quantile in zip(resampled_quantiles, QUANTILES, strict=True):
        low, high = np.quantile(resampled, (0.025, 0.975))
        interval: Interval = (float(low), float(high)) if size > 1 else (None, None)
        value = float(np.quantile(text_perplexities, quantile))
        measured.append(Measured(f"gen0_perplexity_q{round(100 * quantile):02d}", value, *interval, size))
    return measured
