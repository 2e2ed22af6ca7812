"""Which texts to learn from, by how much like human writing they are, or by how much they surprise.

Importance resampling: a detector of synthetic text, trained on the spot, weighs each text, and texts are
drawn by weight without replacement. Drayson, Yilmaz & Lampos 2025, arXiv:2502.15654, whose detector is a
tuned ModernBERT; here it is a logistic regression over hashed words, each text judged by one that did not see it.

Surprise: texts by the quantile of their negative log-likelihood per token. Gambetta et al. 2024,
arXiv:2410.12341: training on the least surprising is worst.
"""

import importlib.util
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.decisions import FilterResult
from heirloom.errors import HeirloomError

_FOLDS = 5
_UNIT = r"\w+|[^\w\s]"


class ImportanceSettings(BaseModel):
    """`[curate.importance_resampling]`: how texts are drawn by what a detector says of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_fraction: float = Field(
        0.7, gt=0, le=1, description="share of the records that reach this sieve that it draws"
    )
    exponent: float = Field(
        10.0, ge=0, description="weight is the probability of being human, to this power; 0 draws all alike"
    )
    seed: int = Field(0, ge=0, description="dice of the folds and of the draw")


class PerplexityFilterSettings(BaseModel):
    """`[curate.perplexity]`: the quantiles of nats per token between which a record stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantiles: tuple[float, float] = Field(
        (0.1, 1.0), description="records whose surprise lies between these quantiles of all stay"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "PerplexityFilterSettings":
        if not 0 <= self.quantiles[0] < self.quantiles[1] <= 1:
            raise HeirloomError(f"quantiles must be [low, high] within 0 and 1, found {list(self.quantiles)}")
        return self


def importance_filter(texts: Sequence[str], human: Sequence[str], settings: ImportanceSettings) -> FilterResult:
    """Which texts are not drawn; the evidence of every text is its probability of being human.

    Raises:
        HeirloomError: scikit-learn is not installed, or there is too little text to learn from.
    """
    probabilities = human_classifier_scores(texts, human, settings.seed)
    drawn = weighted_sample_without_replacement(
        probabilities**settings.exponent, round(settings.keep_fraction * len(texts)), settings.seed
    )
    return FilterResult(["" if stays else "was not drawn: looks synthetic" for stays in drawn], probabilities)


def perplexity_filter(nll_per_token: NDArray[np.float64], settings: PerplexityFilterSettings) -> FilterResult:
    """Which texts lie outside the quantiles; a NaN is no score, and stays.

    Raises:
        HeirloomError: not one text has a score.
    """
    known = nll_per_token[~np.isnan(nll_per_token)]
    if len(nll_per_token) and not len(known):
        raise HeirloomError(
            "the perplexity filter needs log-probabilities, and no text has one; leave perplexity out of filters"
        )
    low, high = np.quantile(known, settings.quantiles) if len(known) else (0.0, 0.0)
    reasons = [
        "surprises too little" if one < low else "surprises too much" if one > high else "" for one in nll_per_token
    ]
    return FilterResult(reasons, nll_per_token)


def human_classifier_scores(texts: Sequence[str], human: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Probability that each of `texts` is human, shape (texts,), by a detector that was not trained on it.

    Human and other texts count alike, however many there are of each.

    Raises:
        HeirloomError: scikit-learn is not installed, or a side has fewer than five texts.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise HeirloomError("importance resampling needs scikit-learn; pip install 'heirloom[embed]'")
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if not texts:
        return np.zeros(0)
    if min(len(texts), len(human)) < _FOLDS:
        raise HeirloomError(
            f"a detector needs at least {_FOLDS} human texts and {_FOLDS} others to learn from, "
            f"found {len(human)} and {len(texts)}"
        )
    seen = HashingVectorizer(n_features=2**18, ngram_range=(1, 2), alternate_sign=False, token_pattern=_UNIT)
    labels = np.repeat([0, 1], [len(texts), len(human)])
    learner = LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear", dual=True, random_state=seed)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    said = cross_val_predict(learner, seen.transform([*texts, *human]), labels, cv=folds, method="predict_proba")
    return np.asarray(said[: len(texts), 1], np.float64)


def weighted_sample_without_replacement(weights: NDArray[np.float64], keep: int, seed: int) -> NDArray[np.bool_]:
    """Which rows are drawn, `keep` of them by weight without replacement; a weight of 0 is drawn last.

    Gumbel keys: Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir".
    """
    with np.errstate(divide="ignore"):
        keys = np.log(weights) + np.random.default_rng(seed).gumbel(size=len(weights))
    drawn = np.zeros(len(weights), bool)
    drawn[np.argsort(-keys, kind="stable")[:keep]] = True
    return drawn
