"""Symptoms of collapse, one function a metric. Texts and counts in, one number with its bounds out.

Everything about vocabulary is compared at one size: the same number of words of human text and of what a
model says, so that a number moves because the language does and not because the sample grew.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.text import words

TEMPERATURES = (1.0, 0.7, 0.85, 1.2, 1.45, 1.75, 2.1, 2.6, 3.2, 4.0)
"""Where recalibration looks; the first one is the model as it is."""

_RARE = range(2, 11)


class MeasureSettings(BaseModel):
    """`[measure]`: how much is looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voice_records: int = Field(500, ge=10, description="texts a model says when it is measured; never trained on")
    sample_words: int = Field(30_000, ge=100, description="words that vocabulary metrics are counted on")
    prompt: str = Field(
        "Return the", description="opening whose continuation is kept for each generation, to be read side by side"
    )
    evaluation: tuple[str, ...] = Field(
        (), description="evaluation sets that perplexity is measured on too; `source` in the metrics is the set's name"
    )


@dataclass(frozen=True)
class Measured:
    """One metric; `low` and `high` are a 95 % interval where one is known."""

    metric: str
    value: float
    low: float | None
    high: float | None
    sample_size: int


def perplexities(nats: NDArray[np.float64], tokens: NDArray[np.int64], bytes_: int, seed: int) -> list[Measured]:
    """Held-out loss of a model: as it is, and after the best single temperature.

    Args:
        nats: negative log-likelihood of each text at each of `TEMPERATURES`, shape (texts, temperatures).
        tokens: tokens of each text, shape (texts,).
        bytes_: UTF-8 bytes of all texts.
        seed: of the bootstrap over texts.
    """
    total = int(tokens.sum())
    losses = nats.sum(0) / total
    best = int(losses.argmin())
    draws = np.random.default_rng(seed).integers(0, len(tokens), (400, len(tokens)))
    resampled = np.quantile(nats[draws].sum(1) / tokens[draws].sum(1)[:, None], (0.025, 0.975), axis=0)

    def measured(metric: str, place: int) -> Measured:
        low, high = np.exp(resampled[:, place])
        return Measured(metric, float(np.exp(losses[place])), float(low), float(high), len(tokens))

    return [
        measured("perplexity", 0),
        measured("recalibrated_perplexity", best),
        Measured("best_temperature", TEMPERATURES[best], None, None, len(tokens)),
        Measured("bits_per_byte", float(nats[:, 0].sum() / math.log(2) / bytes_), None, None, len(tokens)),
    ]


def vocabulary(human: Sequence[str], said: Sequence[str]) -> list[Measured]:
    """How much of the human vocabulary is still said, and how varied it is; both as words in order, of one size.

    rare_word_coverage: share of the words seen 2 to 10 times in `human` that occur in `said`. 0 to 1.
    type_coverage: the same for all human words. 0 to 1.
    types: distinct words in `said`.
    repetition: share of runs of four words in `said` that were said before. 0 to 1.
    """
    counts, spoken = Counter(human), set(said)
    rare = [word for word, count in counts.items() if count in _RARE]
    runs = [tuple(said[start : start + 4]) for start in range(len(said) - 3)]
    return [
        _share("rare_word_coverage", sum(word in spoken for word in rare), len(rare), len(said)),
        _share("type_coverage", sum(word in spoken for word in counts), len(counts), len(said)),
        Measured("types", float(len(spoken)), None, None, len(said)),
        _share("repetition", len(runs) - len(set(runs)), len(runs), len(said)),
    ]


def first_words(texts: Iterable[str], most: int) -> list[str]:
    """The first `most` words of the texts, in order."""
    found: list[str] = []
    for text in texts:
        found += words(text)
        if len(found) >= most:
            break
    return found[:most]


def _share(metric: str, part: int, whole: int, sample_size: int) -> Measured:
    return Measured(metric, part / whole if whole else 0.0, None, None, sample_size)
