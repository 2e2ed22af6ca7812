"""Causal language models: train with transformers, TRL and PEFT; score and sample with transformers.

Runs in a worker process. Its likelihoods are the reference for vLLM: every model folder contains `probe.json`, a text
and its log-likelihood, which another sampler must reproduce before it is used. An interrupted training resumes from
its newest checkpoint, and ends with the same weights as an uninterrupted one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tasks.backends.inference.transformers_decoding import PromptTokens, beam_search, sample_completion
from tasks.backends.models.chat_template import encode_prompts, encode_texts, end_plain_response
from tasks.backends.models.loading import load_model, load_tokenizer, max_positions, native_dtype
from tasks.backends.models.scoring import batch_nll, length_sorted_batches
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.training.launch import run_accelerate
from tasks.backends.training.trainer import explain_oom, train_in_process
from tasks.backends.types import Completion, Progress, Prompt, Score, Text, TrainingResult, TrainJob

_MAX_BEAMS_PER_BATCH = 320
"""Maximum number of beams in one batch."""


def train(job: TrainJob[TransformerTraining], progress: Progress) -> TrainingResult:
    """Train in this process, or in those that `accelerate` starts if the site has a configuration for it.

    Raises:
        HeirloomError: the corpus is empty or too small, a model cannot be read, memory is too small, or the loss
            diverged.
    """
    if job.resources.accelerate_config and job.settings.max_steps:
        return run_accelerate(job, progress)
    with explain_oom(job.settings):
        return train_in_process(job, progress)


def score(model: Path, texts: Sequence[Text], temperatures: Sequence[float], progress: Progress) -> list[Score]:
    """Return the negative log-likelihood of each text with its end token, truncated to the context of the model.

    Of a conversation, the responses count, or all of it, as the model's chat template writes it. One forward pass
    serves all temperatures. The model is computed in its stored data type if this hardware has it.
    """
    dtype = native_dtype(model)
    tokenizer, network = load_tokenizer(model), load_model(model, dtype)
    max_length = max_positions(network)
    rows_of_texts = encode_texts(tokenizer, texts)
    fitted = [(index, row.fit(max_length)) for index, rows in enumerate(rows_of_texts) for row in rows]
    rows = [(index, row.ids, row.mask) for index, row in fitted]
    tokens = [0] * len(texts)
    nll = [[0.0] * len(temperatures) for _ in texts]
    num_done = 0
    for batch in length_sorted_batches([len(ids) for _, ids, _ in rows], network.device):
        indices, batch_ids, masks = zip(*(rows[place] for place in batch), strict=True)
        for index, mask, nats in zip(
            indices, masks, batch_nll(network, list(batch_ids), temperatures, masks), strict=True
        ):
            # The first token has no prediction.
            tokens[index] += sum(mask[1:])
            nll[index] = [total + row_nats for total, row_nats in zip(nll[index], nats, strict=True)]
        num_done += len(batch)
        progress(num_done, len(rows))
    name = str(dtype).removeprefix("torch.")
    return [Score(tokens=count, nll=tuple(total), dtype=name) for count, total in zip(tokens, nll, strict=True)]


def sample(
    settings: Sampling,
    resources: Resources,  # noqa: ARG001  (signature of all samplers)
    model: Path,
    prompts: Sequence[Prompt],
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Yield one completion at a time, each from its own seed; with `beam_width`, a batch of beam searches at a time."""
    dtype = native_dtype(model) if settings.dtype == "auto" else getattr(torch, settings.dtype)
    tokenizer, network = load_tokenizer(model), load_model(model, dtype)
    max_length = max_positions(network)
    encoded = encode_prompts(tokenizer, prompts)
    fitted = encoded.fit(max_length)
    if settings.beam_width > 1:
        batch_size = max(1, _MAX_BEAMS_PER_BATCH // settings.beam_width)
        for start in range(0, len(prompts), batch_size):
            batch = fitted[start : start + batch_size]
            completions = beam_search(settings, tokenizer, network, [tokens.ids for tokens in batch], max_length)
            yield [
                replace(completion, num_cut_tokens=tokens.num_cut)
                for completion, tokens in zip(completions, batch, strict=True)
            ]
            progress(min(start + batch_size, len(prompts)), len(prompts))
        return
    for place, (prompt, tokens) in enumerate(zip(prompts, fitted, strict=True)):
        generator = torch.Generator().manual_seed(prompt.seed)
        end_ids = {tokenizer.eos_token_id, *(encoded.stop_ids if prompt.conversation else ())}
        completion = sample_completion(settings, tokenizer, network, PromptTokens(tokens.ids, end_ids), generator)
        completion = replace(completion, num_cut_tokens=tokens.num_cut)
        yield [completion if encoded.has_template else end_plain_response(prompt, completion)]
        progress(place + 1, len(prompts))
