"""Compute likelihoods of texts with transformers: the reference that every sampler is checked against.

The logits of a batch are never in memory at once. The hidden states of its positions are, and they pass through the
output head in chunks, so memory does not grow with the length of a text times the size of the vocabulary.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tasks.backends.models.tokenization import tokenize_texts

_MAX_ROWS = {"cpu": 32, "cuda": 256}
"""Texts in one batch, by device type."""
_MAX_POSITIONS = {"cpu": 4096, "cuda": 32_768}
"""Positions in one batch, padding included. A longer text is a batch of its own."""
_HEAD_POSITIONS = {"cpu": 256, "cuda": 4096}
"""Positions that pass through the output head together: enough for an efficient matrix product."""
_SOFTMAX_POSITIONS = {"cpu": 16, "cuda": 4096}
"""Positions whose logits are normalized together at every temperature: on a CPU, those that stay in its cache."""


def tokenize(tokenizer: PreTrainedTokenizerFast, text: str, closed: bool = True) -> list[int]:
    """Tokenize a text, with the begin token and, if `closed`, the end token."""
    (text_ids,) = tokenize_texts(tokenizer, [text])
    ids = [tokenizer.bos_token_id, *text_ids]
    return [*ids, tokenizer.eos_token_id] if closed else ids


def length_sorted_batches(lengths: Sequence[int], device: torch.device) -> Iterator[list[int]]:
    """Yield the indices of texts in batches of similar length that fit the memory of a device, shortest texts first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        full = len(batch) == _MAX_ROWS[device.type] or (len(batch) + 1) * lengths[index] > _MAX_POSITIONS[device.type]
        if batch and full:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def batch_nll(
    network: PreTrainedModel,
    batch: list[list[int]],
    temperatures: Sequence[float],
    masks: Sequence[Sequence[bool]] | None = None,
) -> list[tuple[float, ...]]:
    """Return the negative log-likelihood of each row, without its first token, at each temperature, in nats.

    Args:
        network: model.
        batch: token ids of each row.
        temperatures: temperatures to divide the logits by.
        masks: for each row which of its tokens count; default: all.
    """
    max_length = max(len(ids) for ids in batch)
    ids = torch.tensor([row + [0] * (max_length - len(row)) for row in batch], device=network.device)
    attention_mask = torch.tensor(
        [[1] * len(row) + [0] * (max_length - len(row)) for row in batch], device=network.device
    )
    decoder = network.get_decoder()
    outputs = decoder(input_ids=ids, attention_mask=attention_mask, use_cache=False)
    counted = attention_mask[:, 1:].bool()
    if masks is not None:
        padded = [[*mask, *[False] * (max_length - len(mask))] for mask in masks]
        counted &= torch.tensor(padded, device=network.device)[:, 1:]
    hidden, targets = outputs.last_hidden_state[:, :-1][counted], ids[:, 1:][counted]
    size = _HEAD_POSITIONS[network.device.type]
    chunks = []
    with _decoder_returning(decoder, outputs):
        for start in range(0, len(targets), size):
            outputs.last_hidden_state = hidden[None, start : start + size]
            chunk = targets[start : start + size]
            logits = network(input_ids=chunk[None], use_cache=False).logits[0]
            chunks.append(_position_nll(logits, chunk, temperatures))
    columns = []
    for position_nll in torch.cat(chunks, 1) if chunks else [torch.zeros(0)] * len(temperatures):
        rows = torch.zeros(counted.shape, device=network.device).masked_scatter(counted, position_nll)
        columns.append(rows.sum(-1).tolist())
    return list(zip(*columns, strict=True))


def _position_nll(logits: torch.Tensor, targets: torch.Tensor, temperatures: Sequence[float]) -> torch.Tensor:
    """Return the negative log-likelihood of each target at each temperature, shape (temperatures, positions)."""
    size = _SOFTMAX_POSITIONS[logits.device.type]
    nll = torch.empty(len(temperatures), len(targets), device=logits.device)
    for start in range(0, len(targets), size):
        part = logits[start : start + size].float()
        # With the largest logit at 0, the exponentials of no temperature overflow.
        part = part - part.amax(-1, keepdim=True)
        target_logits = part.gather(-1, targets[start : start + size, None])[:, 0]
        scaled = torch.empty_like(part)
        for row, temperature in zip(nll, temperatures, strict=True):
            torch.mul(part, 1 / temperature, out=scaled)
            row[start : start + size] = scaled.exp_().sum(-1).log() - target_logits / temperature
    return nll


@contextlib.contextmanager
def _decoder_returning(decoder: torch.nn.Module, outputs: Any) -> Iterator[None]:  # noqa: ANN401  (each architecture has its own type)
    """Let the decoder of a model return these outputs instead of computing them.

    A model called within the block applies its output head, and whatever its architecture does to the logits (a scale,
    a soft cap), to hidden states of the caller's choice. transformers has no function for this part of the forward
    pass.
    """
    decoder.forward = lambda *_, **__: outputs
    try:
        yield
    finally:
        # The attribute of the instance hides the method of the class.
        del decoder.forward
