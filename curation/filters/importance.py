"""Select texts by how human they look (importance resampling), or by their likelihood (perplexity).

Importance resampling: a classifier, trained on the spot to tell human from synthetic text, gives each text a weight,
and texts are drawn by weight without replacement. Drayson, Yilmaz & Lampos 2025, arXiv:2502.15654, fine-tune ModernBERT
for it; here it is a logistic regression over hashed words, which scores each text with a fold that did not train on it.

Perplexity: texts by the quantile of their negative log-likelihood per token. Gambetta et al. 2024, arXiv:2410.12341:
training on the most likely texts is worst.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import FilterContext, Need
from heirloom.errors import HeirloomError
from heirloom.settings import Settings

_FOLDS = 5
_UNIT_PATTERN = r"\w+|[^\w\s]"


class ImportanceSettings(Settings):
    """`[curate.importance_resampling]`: how many records are drawn, and by which weights."""

    keep_fraction: float = Field(
        0.7, gt=0, le=1, description="fraction of the records that reach this filter that is drawn"
    )
    exponent: float = Field(
        10.0, ge=0, description="a weight is the probability of being human, to this power; 0 draws uniformly"
    )
    seed: int = Field(0, ge=0, description="seed of the folds and of the draw")


class PerplexityFilterSettings(Settings):
    """`[curate.perplexity]`: the quantiles of nats per token between which a record is kept."""

    quantiles: tuple[float, float] = Field(
        (0.1, 1.0), description="[low, high]: records whose nats per token lie between these quantiles are kept"
    )

    @model_validator(mode="after")
    def _check_order(self) -> "PerplexityFilterSettings":
        if not 0 <= self.quantiles[0] < self.quantiles[1] <= 1:
            raise HeirloomError(f"quantiles must be [low, high] within 0 and 1, found {list(self.quantiles)}")
        return self


@dataclass(frozen=True)
class ImportanceFilter:
    """Draws records by how human they look beside the human training records; the score is that probability."""

    name: ClassVar[str] = "importance_resampling"
    needs: ClassVar[frozenset[Need]] = frozenset({"human_train"})
    settings: ImportanceSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Train a classifier on both sides and draw."""
        return importance_filter(records.text_list, context.human_train.text_list, self.settings)


@dataclass(frozen=True)
class PerplexityFilter:
    """Drops records outside of two quantiles of nats per token; the score is nats per token."""

    name: ClassVar[str] = "perplexity"
    needs: ClassVar[frozenset[Need]] = frozenset({"metadata"})
    settings: PerplexityFilterSettings

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Compare the log-probabilities of the records with their quantiles."""
        metadata = context.metadata(records)
        nll = np.full(len(records), np.nan) if metadata is None else -metadata.mean_logprobs
        return perplexity_filter(nll, self.settings)


def importance_filter(texts: Sequence[str], human: Sequence[str], settings: ImportanceSettings) -> FilterResult:
    """Drop the texts that are not drawn; the score of every text is its probability of being human.

    Raises:
        HeirloomError: scikit-learn is not installed, or there are too few texts to train on.
    """
    probabilities = human_classifier_scores(texts, human, settings.seed)
    drawn = weighted_sample_without_replacement(
        probabilities**settings.exponent, round(settings.keep_fraction * len(texts)), settings.seed
    )
    return FilterResult.drop_where(~drawn, "was not drawn: looks synthetic", probabilities)


def perplexity_filter(nll_per_token: NDArray[np.float64], settings: PerplexityFilterSettings) -> FilterResult:
    """Drop the texts outside of the quantiles. A text whose value is NaN is kept.

    Raises:
        HeirloomError: not one text has a value.
    """
    known = nll_per_token[~np.isnan(nll_per_token)]
    if len(nll_per_token) and not len(known):
        raise HeirloomError(
            "The perplexity filter needs log-probabilities, but no record has one. Leave perplexity out of filters"
        )
    low, high = np.quantile(known, settings.quantiles) if len(known) else (0.0, 0.0)
    reason = pc.if_else(
        pa.array(nll_per_token < low),
        "surprises too little",
        pc.if_else(pa.array(nll_per_token > high), "surprises too much", ""),
    )
    return FilterResult(reason=reason, score=nll_per_token)


def human_classifier_scores(texts: Sequence[str], human: Sequence[str], seed: int) -> NDArray[np.float64]:
    """Probability that each of `texts` is human, shape (texts,), by a classifier that was not trained on it.

    Both classes have the same weight, however many texts each has.

    Raises:
        HeirloomError: scikit-learn is not installed, or a class has fewer than five texts.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise HeirloomError("Importance resampling needs scikit-learn. Install heirloom[embed]")
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if not texts:
        return np.zeros(0)
    if min(len(texts), len(human)) < _FOLDS:
        raise HeirloomError(
            f"Importance resampling needs at least {_FOLDS} human texts and {_FOLDS} others to train its classifier, "
            f"found {len(human)} and {len(texts)}"
        )
    vectorizer = HashingVectorizer(
        n_features=2**18, ngram_range=(1, 2), alternate_sign=False, token_pattern=_UNIT_PATTERN
    )
    labels = np.repeat([0, 1], [len(texts), len(human)])
    classifier = LogisticRegression(C=10.0, class_weight="balanced", solver="liblinear", dual=True, random_state=seed)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    probabilities = cross_val_predict(
        classifier, vectorizer.transform([*texts, *human]), labels, cv=folds, method="predict_proba"
    )
    return np.asarray(probabilities[: len(texts), 1], np.float64)


def weighted_sample_without_replacement(weights: NDArray[np.float64], keep: int, seed: int) -> NDArray[np.bool_]:
    """Draw `keep` rows by weight, without replacement; rows of weight 0 come last. Returns a mask, shape (rows,).

    Gumbel keys: Efraimidis & Spirakis 2006, "Weighted random sampling with a reservoir".
    """
    with np.errstate(divide="ignore"):
        keys = np.log(weights) + np.random.default_rng(seed).gumbel(size=len(weights))
    drawn = np.zeros(len(weights), bool)
    drawn[np.argsort(-keys, kind="stable")[:keep]] = True
    return drawn
