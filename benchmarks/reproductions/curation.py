"""Compare token editing, importance resampling and perplexity filtering with random selection on mixed text.

A mixture is evaluated as in the papers: a model is trained on it and scored on held-out human text. Every mixture has
the same number of words. Models are n-grams (`backend = "ngram"`), so results show sign and order, not the published
size.
"""

import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, short
from benchmarks.reproductions.token_editing import EditSettings, edit_tokens, replace_tokens, token_distribution
from curation.filters.importance import human_classifier_scores, weighted_sample_without_replacement
from curation.passages import split_passages
from storage.readers.python_docs import iter_docstrings
from tasks.backends import NgramTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob
from tasks.backends.toy.ngram import sample, score, train
from tests.support.progress import ignore_progress

_SHARES = (0.25, 0.5, 0.75, 1.0)
_SPARE = 1.5
"""Words that an operator chooses from, for each word of a mixture."""


@dataclass(frozen=True)
class _Texts:
    """Texts of one seed; the synthetic ones are of `prior`, a model of `known` human text that is in no mixture."""

    human: list[str]
    known: list[str]
    heldout: list[str]
    synthetic: list[str]
    prior: Path
    budget: int
    seed: int

    def pool(self, share: float, spare: float = _SPARE) -> list[str]:
        """Human texts and synthetic ones, this share of the words, `spare` times the budget."""
        size = self.budget * spare
        return [*_filled(self.human, size * (1 - share)), *_filled(self.synthetic, size * share)]


def operators(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    budget: int = 12_000,
    heldout: int = 200,
    temperature: float = 0.7,
    threshold: float = 0.5,
) -> Iterator[Figure]:
    """Zhu et al. 2024, arXiv:2412.14689; Drayson et al. 2025, arXiv:2502.15654.

    Gambetta et al. 2024, arXiv:2410.12341.
    """
    arms: dict[str, Callable[[_Texts, float], list[str]]] = {
        "a plain draw": lambda texts, share: texts.pool(share, 1.0),
        "token editing": lambda texts, share: _edited(texts, share, threshold),
        "importance resampling": _resampled,
        "the two thirds of highest perplexity": _surprising,
    }
    ratios: dict[str, dict[float, list[float]]] = {name: {share: [] for share in _SHARES} for name in arms}
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            texts = _prepared(Path(folder), seed, budget, heldout, temperature)
            whole = _perplexity(texts, texts.pool(0.0, 1.0))
            for name, arm in arms.items():
                for share in _SHARES:
                    ratios[name][share].append(_perplexity(texts, arm(texts, share)) / whole)
    yield from _claims(ratios)


def _claims(ratios: dict[str, dict[float, list[float]]]) -> Iterator[Figure]:
    plain = ratios["a plain draw"]
    path = [statistics.mean(plain[share]) for share in _SHARES]
    rises = all(later > earlier for earlier, later in itertools.pairwise([1.0, *path]))
    values = " / ".join(f"{one:.3f}" for one in path)
    published = "1.05 / 1.12 / 1.32 / 2.47: rises with each step"
    yield Figure(
        "held-out perplexity at 25/50/75/100 % synthetic over none, mean of seeds", values, "ratio", published, rises
    )
    goals = {
        "token editing": "< 1: edited human text instead of synthetic text lowers the loss",
        "importance resampling": "< 1: resampling by a detector lowers the loss",
        "the two thirds of highest perplexity": "< 1: keeping high-perplexity text lowers the loss",
    }
    for name, goal in goals.items():
        for share in _SHARES:
            beside = [one / other for one, other in zip(ratios[name][share], plain[share], strict=True)]
            yield Figure(
                f"{name} at {share:.0%} synthetic: perplexity / random selection, maximum over seeds",
                short(max(beside)),
                "ratio",
                goal,
                max(beside) < 1,
            )


def _prepared(folder: Path, seed: int, budget: int, heldout: int, temperature: float) -> _Texts:
    found = list(dict.fromkeys(cut for text, _ in iter_docstrings() for cut in split_passages(text, 80, 360).texts))
    drawn = [found[place] for place in np.random.default_rng(seed).permutation(len(found))]
    # A text has 20 words and more.
    known, human = (_filled(some, budget * _SPARE) for some in (drawn[heldout::2], drawn[heldout + 1 :: 2]))
    prior = _learned(folder / "prior", known, None)
    prompts = [Prompt("", seed * 100_000 + place) for place in range(2 * len(known))]
    batches = sample(Sampling(sampler="ngram", temperature=temperature), Resources(), prior, prompts, ignore_progress)
    synthetic = _filled((one.text for batch in batches for one in batch), budget * _SPARE)
    return _Texts(human, known, drawn[:heldout], synthetic, prior, budget, seed)


def _edited(texts: _Texts, share: float, threshold: float) -> list[str]:
    """The human texts that synthetic ones would replace, with tokens of high prior probability resampled."""
    settings = EditSettings(threshold=threshold)
    mixture = _filled(texts.human, texts.budget)
    for place in range(len(_filled(mixture, texts.budget * (1 - share))), len(mixture)):
        outlook = token_distribution(texts.prior, mixture[place], settings.top_k)
        mixture[place] = replace_tokens(texts.prior, mixture[place], edit_tokens(outlook, settings, place)[0])
    return mixture


def _resampled(texts: _Texts, share: float) -> list[str]:
    pool = texts.pool(share)
    weights = human_classifier_scores(pool, texts.known, texts.seed) ** 10
    # Who is drawn among few is drawn among more too.
    drawn = [weighted_sample_without_replacement(weights, keep, texts.seed) for keep in range(1, len(pool) + 1)]
    first = np.argsort(-np.sum(drawn, axis=0), kind="stable")
    return _filled((pool[place] for place in first), texts.budget)


def _surprising(texts: _Texts, share: float) -> list[str]:
    pool = texts.pool(share)
    nats = np.array([one.nll[0] / one.tokens for one in score(texts.prior, pool, (1.0,), ignore_progress)])
    return _filled((pool[place] for place in np.argsort(-nats, kind="stable")), texts.budget)


def _filled(texts: Iterable[str], words: float) -> list[str]:
    """The first texts that together have so many words."""
    found, there = [], 0
    for text in texts:
        if there >= words:
            break
        found.append(text)
        there += len(text.split())
    return found


def _learned(folder: Path, texts: Sequence[str], ancestor: Path | None) -> Path:
    folder.mkdir(exist_ok=True)
    corpus = TrainingCorpus(texts, [])
    job = TrainJob(settings=NgramTraining(), corpus=corpus, gen0_model=ancestor, folder=folder, seed=0)
    train(job, ignore_progress)
    return folder


def _perplexity(texts: _Texts, mixture: Sequence[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        scores = score(_learned(Path(folder), mixture, texts.prior), texts.heldout, (1.0,), ignore_progress)
    return math.exp(sum(one.nll[0] for one in scores) / sum(one.tokens for one in scores))


if __name__ == "__main__":
    for figure in operators():
        print(figure.name, figure.value, figure.goal, figure.holds, flush=True)
