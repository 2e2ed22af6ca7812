"""Compute likelihoods of texts with transformers: the reference that every sampler is checked against."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tasks.backends.models.tokenization import tokenize_texts


def tokenize(tokenizer: PreTrainedTokenizerFast, text: str, closed: bool = True) -> list[int]:
    """Tokenize a text, with the begin token and, if `closed`, the end token."""
    (text_ids,) = tokenize_texts(tokenizer, [text])
    ids = [tokenizer.bos_token_id, *text_ids]
    return [*ids, tokenizer.eos_token_id] if closed else ids


@torch.inference_mode()
def batch_nll(
    network: PreTrainedModel, batch: list[list[int]], temperatures: Sequence[float]
) -> list[tuple[float, ...]]:
    """Return the negative log-likelihood of each row, without its first token, at each temperature, in nats."""
    max_length = max(len(ids) for ids in batch)
    ids = torch.tensor([row + [0] * (max_length - len(row)) for row in batch], device=network.device)
    attention_mask = torch.tensor(
        [[1] * len(row) + [0] * (max_length - len(row)) for row in batch], device=network.device
    )
    logits = network(input_ids=ids, attention_mask=attention_mask).logits[:, :-1].float()
    targets, counted = ids[:, 1:, None], attention_mask[:, 1:]
    columns = []
    for temperature in temperatures:
        log_probs = (logits / temperature).log_softmax(-1).gather(-1, targets)[..., 0]
        columns.append((-(log_probs * counted).sum(-1)).tolist())
    return list(zip(*columns, strict=True))
