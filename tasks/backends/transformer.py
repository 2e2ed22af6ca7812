"""A causal language model: trained by transformers, TRL and PEFT, scored and, slowly, sampled by transformers.

Runs in a worker process, so that torch's threads and memory are its own. It is the reference for vLLM: every model
folder carries `probe.json`, a text and its log-likelihood here, which a sampler must reproduce before it speaks.
A training that was killed goes on from the newest checkpoint in its folder, and ends as if it had not been.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import TrainerCallback, set_seed

from tasks.backends import (
    Completion,
    Corpus,
    Lesson,
    Progress,
    Prompt,
    Resources,
    Sampling,
    Score,
    Text,
    TransformerTraining,
)
from tasks.backends.averaging import Averaging
from tasks.backends.beginning import begin, read_tokenizer
from tasks.backends.checkpoints import Keeping, clear, newest_checkpoint, step_of
from tasks.backends.curve import Reporting, points
from tasks.backends.decoding import complete, search
from tasks.backends.launching import launched
from tasks.backends.plans import heldout_blocks, plan_of
from tasks.backends.publishing import publish
from tasks.backends.scoring import longest_of, nats_of, open_network, spell
from tasks.backends.shortage import short_of_memory
from tasks.backends.teaching import trainer_of

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


def learn(
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
    """`train` in this very process, which may be one of several."""
    started = time.monotonic()
    set_seed(seed)
    network, tokenizer = begin(settings, beginning, ancestor, corpus)
    plan = plan_of(settings, corpus, tokenizer, ancestor is None, seed)
    evaluated = heldout_blocks(settings, tokenizer, heldout)
    reporting = Reporting(progress, plan.seen(plan.steps)[0] / plan.steps)
    averaging: list[TrainerCallback] = [Averaging(settings.averaged)] if settings.averaged else []
    callbacks = [*averaging, Keeping(resources.checkpoint_seconds), reporting]
    trainer = trainer_of(settings, network, tokenizer, plan, evaluated, folder, seed, callbacks)
    checkpoint = newest_checkpoint(folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    log = points(trainer.state.log_history)
    publish(trainer, tokenizer, folder, settings.adapter and beginning is not None, _first(corpus))
    if trainer.is_world_process_zero():
        clear(folder)
    tokens, human_tokens = plan.seen(trainer.state.global_step)
    return Lesson(
        tokens=tokens,
        human_tokens=human_tokens,
        steps=trainer.state.global_step,
        seconds=time.monotonic() - started,
        log=log,
        resumed_from=step_of(checkpoint) if checkpoint else 0,
    )


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


def _first(corpus: Corpus) -> str:
    """Something that the corpus says."""
    texts = [*corpus.human[:1], *corpus.synthetic[:1], *(pair.prompt + pair.chosen for pair in corpus.preferences[:1])]
    return texts[0] if isinstance(texts[0], str) else "".join(texts[0])
