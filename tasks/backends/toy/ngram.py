"""Word n-gram model with Witten-Bell interpolation. It trains in a second, and collapses within five generations.

At each order the observed continuations get a share of the probability that grows with their number; the rest goes to
the shorter context, down to a uniform distribution (Witten & Bell 1991, "The zero-frequency problem"). The vocabulary
is that of generation 0, so that perplexities are comparable; other words count as one unknown word. Tokens are words
and punctuation with the space before them.
"""

import json
import math
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heirloom.errors import HeirloomError
from tasks.backends.models.chat_template import end_plain_response
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import NgramTraining
from tasks.backends.types import Completion, Progress, Prompt, Score, Text, TrainingResult, TrainJob, plain_text

TOKEN = re.compile(r"\s?\w+|\s?[^\w\s]|\s")
"""Finds the tokens of a text."""
BEGIN, END, UNKNOWN = 0, 1, 2
"""Ids of the special tokens."""
_FILE = "ngram.json"

Counts = dict[tuple[int, ...], Counter[int]]


def train(job: TrainJob[NgramTraining], progress: Progress) -> TrainingResult:
    """Count all n-grams of up to `order` words.

    Raises:
        HeirloomError: the corpus is empty.
    """
    settings, corpus = job.settings, job.corpus
    started = time.monotonic()
    if not corpus.human and not corpus.synthetic:
        raise HeirloomError("The corpus is empty. Training needs at least one text.")
    texts = [plain_text(text) for text in (*corpus.human, *corpus.synthetic)]
    vocabulary = (
        load_ngrams(job.gen0_model).vocabulary
        if job.gen0_model
        else ["", "", "", *sorted({t for x in texts for t in TOKEN.findall(x)})]
    )
    ids = {token: place for place, token in enumerate(vocabulary) if token}
    counts: Counts = defaultdict(Counter)
    sizes = []
    for place, text in enumerate(texts):
        found = [BEGIN] * (settings.order - 1) + [ids.get(t, UNKNOWN) for t in TOKEN.findall(text)] + [END]
        sizes.append(len(found) - settings.order + 1)
        for end in range(settings.order - 1, len(found)):
            for length in range(settings.order):
                counts[tuple(found[end - length : end])][found[end]] += 1
        if place % 200 == 0:
            progress(place, len(texts))
    rows = [[list(context), list(after.items())] for context, after in counts.items()]
    (job.folder / _FILE).write_text(json.dumps({"order": settings.order, "vocabulary": vocabulary, "counts": rows}))
    return TrainingResult(sum(sizes), sum(sizes[: len(corpus.human)]), len(texts), time.monotonic() - started, ())


def sample(
    settings: Sampling,
    resources: Resources,  # noqa: ARG001  (signature of all samplers)
    model: Path,
    prompts: Sequence[Prompt],
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Sample a continuation of each prompt from its own seed."""
    ngrams = load_ngrams(model)
    for place, prompt in enumerate(prompts):
        yield [end_plain_response(prompt, _complete(settings, ngrams, prompt))]
        if place % 50 == 0:
            progress(place, len(prompts))


def score(model: Path, texts: Sequence[Text], temperatures: Sequence[float], progress: Progress) -> list[Score]:
    """Return the negative log-likelihood of each text with its end token, at each temperature."""
    ngrams = load_ngrams(model)
    scores = []
    for place, text in enumerate(map(plain_text, texts)):
        ids = [BEGIN] * (ngrams.order - 1) + ngrams.encode(text) + [END]
        nats = np.zeros(len(temperatures))
        for end in range(ngrams.order - 1, len(ids)):
            context = tuple(ids[end - ngrams.order + 1 : end])
            nats -= ngrams.log_likelihood(context, ids[end], tuple(temperatures))
        scores.append(Score(len(ids) - ngrams.order + 1, tuple(nats.tolist())))
        if place % 50 == 0:
            progress(place, len(texts))
    return scores


class NgramModel:
    """N-gram counts, and the distributions computed from them."""

    def __init__(self, order: int, vocabulary: list[str], counts: Counts) -> None:
        self.order, self.vocabulary, self._counts = order, vocabulary, counts
        self._ids = {token: place for place, token in enumerate(vocabulary) if token}
        self.distribution = lru_cache(maxsize=2048)(self._distribution)
        self.cumulative = lru_cache(maxsize=2048)(self._cumulative)
        self.log_partitions = lru_cache(maxsize=65536)(self._log_partitions)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        return [self._ids.get(token, UNKNOWN) for token in TOKEN.findall(text)]

    def seen(self, context: Sequence[int]) -> tuple[int, ...]:
        """Return the longest suffix of the context that was observed, on which the next token depends."""
        known = tuple(context)
        while known and known not in self._counts:
            known = known[1:]
        return known

    def _distribution(self, context: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the probability of every next token, shape (vocabulary,). That of the begin token is 0."""
        if context:
            shorter = self.distribution(self.seen(context[1:]))
        else:
            shorter = np.full(len(self.vocabulary), 1 / (len(self.vocabulary) - 1))
            shorter[BEGIN] = 0
        after = self._counts.get(context)
        if not after:
            return shorter
        found = shorter * len(after)
        found[np.fromiter(after.keys(), np.int64)] += np.fromiter(after.values(), np.float64)
        return found / (sum(after.values()) + len(after))

    def _cumulative(self, context: tuple[int, ...], settings: Sampling) -> NDArray[np.float64]:
        return np.cumsum(_apply_sampling_settings(self.distribution(context), settings))

    def _log_partitions(self, context: tuple[int, ...], temperatures: tuple[float, ...]) -> NDArray[np.float64]:
        logs = np.log(self.distribution(context)[1:])
        return np.array([0.0 if one == 1 else math.log(np.exp(logs / one).sum()) for one in temperatures])

    def log_likelihood(
        self, context: tuple[int, ...], token: int, temperatures: tuple[float, ...]
    ) -> NDArray[np.float64]:
        """Log-probability of `token` at each temperature, shape (temperatures,)."""
        known = self.seen(context)
        log = math.log(self.distribution(known)[token])
        return log / np.array(temperatures) - self.log_partitions(known, temperatures)


@lru_cache(maxsize=2)
def load_ngrams(model: Path) -> NgramModel:
    """Load a model from its folder.

    Raises:
        HeirloomError: there is no n-gram model in it.
    """
    if not (model / _FILE).is_file():
        raise HeirloomError(f"{model} is not an n-gram model. Expected {_FILE} in it.")
    stored = json.loads((model / _FILE).read_text())
    counts = {tuple(context): Counter(dict(after)) for context, after in stored["counts"]}
    return NgramModel(stored["order"], stored["vocabulary"], counts)


def _complete(settings: Sampling, ngrams: NgramModel, prompt: Prompt) -> Completion:
    rng = random.Random(prompt.seed)  # noqa: S311  (not for cryptography)
    prompt_ids = ngrams.encode(prompt.text)
    ids = [BEGIN] * (ngrams.order - 1) + prompt_ids
    generated: list[str] = []
    total, reason = 0.0, "length"
    while len(generated) < settings.max_tokens:
        context = ngrams.seen(ids[len(ids) - ngrams.order + 1 :])
        cumulative = ngrams.cumulative(context, settings)
        token = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        total += math.log(ngrams.distribution(context)[token])
        if token == END:
            reason = "stop"
            break
        ids.append(token)
        generated.append(ngrams.vocabulary[token])
    return Completion("".join(generated), reason, len(prompt_ids), len(generated), total)


def _apply_sampling_settings(found: NDArray[np.float64], settings: Sampling) -> NDArray[np.float64]:
    """Apply the sampling settings to a distribution of shape (vocabulary,). The result is not normalized."""
    shaped = found.copy()
    shaped[UNKNOWN] = 0
    if settings.temperature != 1:
        # Relative to the maximum, since powers of small numbers underflow at low temperatures.
        shaped = (shaped / shaped.max()) ** (1 / settings.temperature)
    if settings.top_k:
        shaped[shaped < np.partition(shaped, -min(settings.top_k, len(shaped)))[-min(settings.top_k, len(shaped))]] = 0
    if settings.min_p:
        shaped[shaped < settings.min_p * shaped.max()] = 0
    if settings.top_p < 1:
        places = np.argsort(-shaped)
        before = np.cumsum(shaped[places]) - shaped[places]
        shaped[places[before >= settings.top_p * shaped.sum()]] = 0
    return shaped
