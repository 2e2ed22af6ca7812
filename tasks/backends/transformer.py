"""A causal language model: trained by transformers, TRL and PEFT, scored and, slowly, sampled by transformers.

Runs in a worker process, so that torch's threads and memory are its own. It is the reference for vLLM: every model
folder carries `probe.json`, a text and its log-likelihood here, which a sampler must reproduce before it speaks.
A training that was killed goes on from the newest checkpoint in its folder, and ends as if it had not been.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from tasks.backends.inference.transformers_decoding import beam_search, sample_completion
from tasks.backends.models.loading import load_model, load_tokenizer, max_positions
from tasks.backends.models.scoring import batch_nll, tokenize
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.training.launch import run_accelerate
from tasks.backends.training.trainer import explain_oom, train_in_process
from tasks.backends.types import Completion, Progress, Prompt, Score, TrainingResult, TrainJob

_ROWS = 320
"""Beams that are advanced together."""


def train(job: TrainJob[TransformerTraining], progress: Progress) -> TrainingResult:
    """Train on what the objective makes of the corpus, in the order that the human schedule asks for.

    Raises:
        HeirloomError: nothing or too little to learn from, no model to start from, too little memory, or a loss that is
            not a number.
    """
    if job.resources.accelerate_config:
        return run_accelerate(job, progress)
    with explain_oom(job.settings):
        return train_in_process(job, progress)


def score(model: Path, texts: Sequence[str], temperatures: Sequence[float], progress: Progress) -> list[Score]:
    """Log-likelihood of each text, from its first token to its end, cut to the context of the model."""
    tokenizer, network = load_tokenizer(model), load_model(model)
    max_length = max_positions(network)
    encoded = [tokenize(tokenizer, text)[:max_length] for text in texts]
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
    scores: list[Score | None] = [None] * len(encoded)
    for start in range(0, len(order), 32):
        batch = order[start : start + 32]
        for place, nats in zip(
            batch, batch_nll(network, [encoded[place] for place in batch], temperatures), strict=True
        ):
            scores[place] = Score(tokens=len(encoded[place]) - 1, nll=nats)
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
    tokenizer, network = load_tokenizer(model), load_model(model)
    max_length = max_positions(network)
    if settings.beam_width > 1:
        some = max(1, _ROWS // settings.beam_width)
        for start in range(0, len(prompts), some):
            spelled = [
                tokenize(tokenizer, one.text, closed=False)[: max_length - 1] for one in prompts[start : start + some]
            ]
            yield beam_search(settings, tokenizer, network, spelled, max_length)
            progress(min(start + some, len(prompts)), len(prompts))
        return
    for place, prompt in enumerate(prompts):
        generator = torch.Generator().manual_seed(prompt.seed)
        ids = tokenize(tokenizer, prompt.text, closed=False)[: max_length - 1]
        yield [sample_completion(settings, tokenizer, network, ids, generator, max_length)]
        progress(place + 1, len(prompts))
