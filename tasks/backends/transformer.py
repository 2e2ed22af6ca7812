"""A causal language model: trained by transformers, TRL and PEFT, scored and, slowly, sampled by transformers.

Runs in a worker process, so that torch's threads and memory are its own. It is the reference for vLLM: every model
folder carries `probe.json`, a text and its log-likelihood here, which a sampler must reproduce before it speaks.
A training that was killed goes on from the newest checkpoint in its folder, and ends as if it had not been.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tasks.backends.inference.transformers_decoding import complete, search
from tasks.backends.models.loading import longest_of, open_network, read_tokenizer
from tasks.backends.models.scoring import nats_of, spell
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.training.launch import launched
from tasks.backends.training.trainer import learn, short_of_memory
from tasks.backends.types import Completion, Corpus, Lesson, Progress, Prompt, Score, Text

_ROWS = 320
"""Beams that are advanced together."""


def train(
    settings: TransformerTraining,
    resources: Resources,
    corpus: Corpus,
    heldout: Sequence[Text],
    ancestor: Path | None,
    beginning: Path | str | None,
    folder: Path,
    seed: int,
    progress: Progress,
) -> Lesson:
    """Train on what the objective makes of the corpus, in the order that the human schedule asks for.

    Raises:
        ValueError: nothing or too little to learn from, no model to start from, too little memory, or a loss that is
            not a number.
    """
    asked = (settings, resources, corpus, heldout, ancestor, beginning, folder, seed)
    if resources.accelerate:
        return launched(resources.accelerate, asked, progress)
    with short_of_memory(settings):
        return learn(*asked, progress)


def score(model: Path, texts: Sequence[str], temperatures: Sequence[float], progress: Progress) -> list[Score]:
    """Log-likelihood of each text, from its first token to its end, cut to the context of the model."""
    tokenizer, network = read_tokenizer(model), open_network(model)
    longest = longest_of(network)
    encoded = [spell(tokenizer, text)[:longest] for text in texts]
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
    scores: list[Score | None] = [None] * len(encoded)
    for start in range(0, len(order), 32):
        batch = order[start : start + 32]
        for place, nats in zip(batch, nats_of(network, [encoded[place] for place in batch], temperatures), strict=True):
            scores[place] = Score(tokens=len(encoded[place]) - 1, nats=nats)
        progress(min(start + 32, len(order)), len(order))
    return [found for found in scores if found is not None]


def sample(
    settings: Sampling,
    resources: Resources,  # noqa: ARG001  (every sampler is asked alike)
    model: Path,
    prompts: Sequence[Prompt],
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Speak one prompt at a time, each from its own seed: slow, and the same whatever the batching; or search for many at a time."""
    tokenizer, network = read_tokenizer(model), open_network(model)
    longest = longest_of(network)
    if settings.beam_width > 1:
        some = max(1, _ROWS // settings.beam_width)
        for start in range(0, len(prompts), some):
            spelled = [spell(tokenizer, one.text, closed=False)[: longest - 1] for one in prompts[start : start + some]]
            yield search(settings, tokenizer, network, spelled, longest)
            progress(min(start + some, len(prompts)), len(prompts))
        return
    for place, prompt in enumerate(prompts):
        dice = torch.Generator().manual_seed(prompt.seed)
        ids = spell(tokenizer, prompt.text, closed=False)[: longest - 1]
        yield [complete(settings, tokenizer, network, ids, dice, longest)]
        progress(place + 1, len(prompts))
