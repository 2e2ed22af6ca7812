"""Measure the cost of each filter on single texts, and the effect of three operators on human-synthetic mixtures.

Costs are CPU time per text, in one process, interleaved; figures are medians of the rounds. Texts are docstrings of the
running Python, joined to about 250 words. Operators are compared by the held-out perplexity of an n-gram model of the
resulting mixture. Every mixture has 900 texts, a third of them human except for importance resampling, which does not
receive the origin. Synthetic texts are low-temperature samples of an n-gram model. Below 1 is a gain over random
selection.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, short
from benchmarks.reproductions.token_editing import EditSettings, edit_tokens, replace_tokens, token_distribution
from curation.filters.importance import (
    PerplexityFilterSettings,
    human_classifier_scores,
    perplexity_filter,
    weighted_sample_without_replacement,
)
from curation.filters.language import LanguageSettings, language_filter
from curation.filters.pii import PiiSettings, pii_filter
from curation.filters.quality import QualitySettings, quality_filter
from curation.passages import split_passages
from storage.readers.python_docs import iter_docstrings
from tasks.backends import Completion, NgramTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob
from tasks.backends.toy.ngram import sample, score, train
from tests.support.progress import ignore_progress

_ROUNDS, _TEXTS = 5, 1000
_HUMAN, _HELDOUT, _SYNTHETIC = 600, 300, 1200
_KEEP = (_HUMAN + _SYNTHETIC) // 2
"""Texts in every mixture."""


def measure() -> list[Figure]:
    """Costs first, then the operators."""
    found = list(dict.fromkeys(text for text, _ in iter_docstrings()))
    return _costs(_long(found)) + _operators([cut for text in found for cut in split_passages(text, 80, 360).texts])


def _long(found: Sequence[str]) -> list[str]:
    words = " ".join(found).split()
    return [" ".join(words[start : start + 250]) for start in range(0, 250 * _TEXTS, 250)]


def _costs(texts: Sequence[str]) -> list[Figure]:
    filters: dict[str, Callable[[], object]] = {
        "quality, documents": lambda: quality_filter(texts, QualitySettings(preset="documents")),
        "quality, short": lambda: quality_filter(texts, QualitySettings()),
        "language": lambda: language_filter(texts, LanguageSettings()),
        "personal data": lambda: pii_filter(texts, PiiSettings()),
        "importance": lambda: human_classifier_scores(texts[: len(texts) // 2], texts[len(texts) // 2 :], 0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in filters}
    for run_filter in filters.values():
        run_filter()
    for _ in range(_ROUNDS):
        for name, run_filter in filters.items():
            began = time.process_time()
            run_filter()
            seconds[name].append(time.process_time() - began)
    costs = {name: statistics.median(each) / len(texts) * 1e6 for name, each in seconds.items()}
    goals = {"quality, documents": 250.0, "quality, short": 250.0, "language": 250.0, "personal data": 500.0}
    return [
        Figure(
            f"{name}: CPU time per text of 250 words",
            short(cost),
            "us",
            f"<= {goals[name]:.0f}" if name in goals else "",
            cost <= goals[name] if name in goals else None,
        )
        for name, cost in costs.items()
    ]


def _operators(texts: Sequence[str]) -> list[Figure]:
    order = np.random.default_rng(0).permutation(len(texts))[: 2 * _HUMAN + _HELDOUT]
    drawn = [texts[place] for place in order]
    human, known, heldout = drawn[:_HUMAN], drawn[_HUMAN : 2 * _HUMAN], drawn[2 * _HUMAN :]
    with tempfile.TemporaryDirectory() as folder:
        model = _learned(Path(folder) / "first", [*human, *known], None)
        synthetic = _sample_synthetic(model)
        half = [one.text for one in synthetic[: _SYNTHETIC // 2]]
        plain = _perplexity(Path(folder) / "plain", [*human[: _HUMAN // 2], *half], heldout, model)
        mixtures = {
            "importance resampling": _important(human, known, synthetic),
            "perplexity filter, upper half": [*human[: _HUMAN // 2], *_surprising(synthetic)],
            "token editing": [*human[: _HUMAN // 2], *_edited(half, model)],
        }
        return [
            _gain(name, _perplexity(Path(folder) / name, mixture, heldout, model) / plain)
            for name, mixture in mixtures.items()
        ]


def _gain(name: str, ratio: float) -> Figure:
    return Figure(f"{name}: held-out perplexity / random selection", short(ratio), "ratio", "< 1", ratio < 1)


def _important(human: Sequence[str], known: Sequence[str], synthetic: Sequence[Completion]) -> list[str]:
    mixture = [*human, *(one.text for one in synthetic)]
    probabilities = human_classifier_scores(mixture, known, 0)
    return [
        text
        for text, stays in zip(mixture, weighted_sample_without_replacement(probabilities**10, _KEEP, 0), strict=True)
        if stays
    ]


def _surprising(synthetic: Sequence[Completion]) -> list[str]:
    nats = np.array([-(one.sum_logprob or 0.0) / max(1, one.completion_tokens) for one in synthetic])
    upper = perplexity_filter(nats, PerplexityFilterSettings(quantiles=(0.5, 1.0))).kept
    return [one.text for one, stays in zip(synthetic, upper, strict=True) if stays]


def _edited(texts: Sequence[str], model: Path) -> list[str]:
    settings = EditSettings(threshold=0.5)
    edited = []
    for seed, text in enumerate(texts):
        outlook = token_distribution(model, text, settings.top_k)
        edited.append(replace_tokens(model, text, edit_tokens(outlook, settings, seed)[0]))
    return edited


def _sample_synthetic(model: Path) -> list[Completion]:
    prompts = [Prompt("", seed) for seed in range(_SYNTHETIC)]
    sampling = Sampling(sampler="ngram", temperature=0.6)
    return [one for batch in sample(sampling, Resources(), model, prompts, ignore_progress) for one in batch]


def _learned(folder: Path, texts: Sequence[str], ancestor: Path | None) -> Path:
    folder.mkdir()
    corpus = TrainingCorpus(texts, [])
    job = TrainJob(settings=NgramTraining(), corpus=corpus, gen0_model=ancestor, folder=folder, seed=0)
    train(job, ignore_progress)
    return folder


def _perplexity(folder: Path, texts: Sequence[str], heldout: Sequence[str], ancestor: Path) -> float:
    scores = score(_learned(folder, texts, ancestor), heldout, (1.0,), ignore_progress)
    return math.exp(sum(one.nll[0] for one in scores) / sum(one.tokens for one in scores))
