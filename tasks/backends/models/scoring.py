"""How likely texts are under a model folder, by transformers: the reference that every sampler is checked against."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast


def tokenize(tokenizer: PreTrainedTokenizerFast, text: str, closed: bool = True) -> list[int]:
    """Tokens of a text with its begin, and where it is closed its end."""
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    return [*ids, tokenizer.eos_token_id] if closed else ids


@torch.inference_mode()
def batch_nll(network: Any, batch: list[list[int]], temperatures: Sequence[float]) -> list[tuple[float, ...]]:  # noqa: ANN401
    """Negative log-likelihood of each row of tokens but its first, at each temperature."""
    longest = max(len(ids) for ids in batch)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch], device=network.device)
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch], device=network.device)
    logits = network(input_ids=ids, attention_mask=real).logits[:, :-1].float()
    targets, counted = ids[:, 1:, None], real[:, 1:]
    columns = []
    for temperature in temperatures:
        found = (logits / temperature).log_softmax(-1).gather(-1, targets)[..., 0]
        columns.append((-(found * counted).sum(-1)).tolist())
    return list(zip(*columns, strict=True))
