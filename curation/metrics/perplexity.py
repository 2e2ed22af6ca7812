"""How surprised a model is: by held-out human text, which is the ground truth, and by what another model says."""

import math

import numpy as np
from numpy.typing import NDArray

from curation.metrics.bootstrap import Interval, bootstrap
from curation.metrics.settings import TEMPERATURES, Measured

Numbers = NDArray[np.float64]
Tokens = NDArray[np.int64]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def perplexities(nll: Numbers, tokens: Tokens, num_bytes: int, seed: int) -> list[Measured]:
    """Held-out loss of a model: as it is, and after the best single temperature.

    Args:
        nll: negative log-likelihood of each text at each of `TEMPERATURES`, shape (texts, temperatures).
        tokens: tokens of each text, shape (texts,).
        num_bytes: UTF-8 bytes of all texts.
        seed: of the bootstrap over texts.
    """
    total = int(tokens.sum())
    losses = nll.sum(0) / total
    best = int(losses.argmin())

    def measured(metric: str, place: int) -> Measured:
        rows = np.stack([nll[:, place], tokens.astype(np.float64)], 1)
        bounds = bootstrap(rows, seed, of=lambda means: np.exp(means[:, 0] / means[:, 1]))
        return Measured(metric, float(np.exp(losses[place])), *bounds, len(tokens))

    def bits(metric: str, place: int) -> Measured:
        return Measured(metric, float(nll[:, place].sum() / math.log(2) / num_bytes), None, None, len(tokens))

    return [
        measured("perplexity", 0),
        measured("perplexity_at_best_temperature", best),
        Measured("best_temperature", TEMPERATURES[best], None, None, len(tokens)),
        bits("bits_per_byte", 0),
        bits("bits_per_byte_at_best_temperature", best),
    ]


def paired_loss_difference(baseline: Numbers, current: Numbers, tokens: Tokens, seed: int) -> Measured:
    """Held-out nats a token now less those of generation 0's model, with a paired 99 % interval over texts.

    `before` and `now` are nats of the same texts, shape (texts,), `tokens` the tokens of each under either.
    """
    rows = np.stack([current - baseline, tokens.astype(np.float64)], 1)
    bounds = bootstrap(rows, seed, 0.99, of=lambda means: means[:, 0] / means[:, 1])
    return Measured("loss_change", float((current - baseline).sum() / tokens.sum()), *bounds, len(tokens))


def perplexity_quantiles(nll: Numbers, tokens: Tokens, seed: int) -> list[Measured]:
    """Quantiles of the perplexity of each text under the model of generation 0; none for no texts.

    Where early collapse shows on both sides: mass moves to the likely, and a tail of what people would never write appears.
    Shumailov et al. 2024.
    """
    if not len(tokens):
        return []
    each = np.exp(nll / np.maximum(1, tokens))
    rng = np.random.default_rng(seed)
    drawn = np.quantile(each[rng.integers(0, len(each), (200, len(each)))], QUANTILES, axis=1)
    found = []
    for place, quantile in enumerate(QUANTILES):
        low, high = np.quantile(drawn[place], (0.025, 0.975))
        bounds: Interval = (float(low), float(high)) if len(each) > 1 else (None, None)
        value = float(np.quantile(each, quantile))
        found.append(Measured(f"gen0_perplexity_q{round(100 * quantile):02d}", value, *bounds, len(each)))
    return found
