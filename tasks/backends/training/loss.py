"""Cross-entropy in chunks, so that the logits of a whole step or batch are never in memory at once.

The logits of a small model are most of the memory traffic of a training step. Loss and gradients of a chunk are
computed together, while it is in cache. The result equals the plain loss up to rounding.
"""

import torch
from torch.autograd.function import FunctionCtx
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

_CPU_CHUNK_ROWS = 256
"""Rows that fit the cache of a CPU."""
_GPU_CHUNK_ROWS = 8192
"""Rows that use a GPU fully."""


class LlamaWithChunkedLoss(LlamaForCausalLM):
    """A Llama whose loss is computed in chunks, in training and evaluation. Without labels it is the plain Llama."""

    def __init__(self, config: LlamaConfig) -> None:
        """Build the network. transformers derives the loss type from the class name, so it is set explicitly."""
        super().__init__(config)
        self.loss_type = "ForCausalLM"

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **rest: object,
    ) -> CausalLMOutputWithPast:
        """Return the next-token loss, without logits; without labels, the output of the parent class.

        The loss is the mean over all tokens or, with gradient accumulation, the sum divided by `num_items_in_batch`.
        """
        if labels is None:
            return super().forward(input_ids=input_ids, **rest)
        hidden = self.model(input_ids=input_ids, use_cache=False, **rest).last_hidden_state[:, :-1]
        rows, targets = hidden.reshape(-1, hidden.shape[-1]), labels[:, 1:].reshape(-1)
        unmasked = targets >= 0
        if not unmasked.all():
            rows, targets = rows[unmasked], targets[unmasked]
        # With all targets masked the loss is 0.
        count = max(1, len(rows) if num_items_in_batch is None else int(num_items_in_batch))
        if not torch.is_grad_enabled():
            return CausalLMOutputWithPast(loss=_sum_nll(rows, self.lm_head.weight, targets) / count)
        return CausalLMOutputWithPast(loss=_ChunkedCrossEntropy.apply(rows, self.lm_head.weight, targets, count))


def _sum_nll(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the summed negative log-likelihood of the targets, without gradients."""
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    size = _chunk_rows(hidden)
    for start in range(0, len(hidden), size):
        # Under autocast the product is in the lower data type.
        logits = torch.nn.functional.linear(hidden[start : start + size], weight).float()
        total += torch.nn.functional.cross_entropy(logits, targets[start : start + size], reduction="sum")
    return total


def _chunk_rows(hidden: torch.Tensor) -> int:
    return _CPU_CHUNK_ROWS if hidden.device.type == "cpu" else _GPU_CHUNK_ROWS


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: FunctionCtx, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, count: int
    ) -> torch.Tensor:
        kind = hidden.device.type
        cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        low = torch.get_autocast_dtype(kind) if cast else hidden.dtype
        size = _chunk_rows(hidden)
        rows, narrow = hidden.to(low), weight.to(low)
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(rows), size):
            part, target = rows[start : start + size], targets[start : start + size, None]
            gradient = (part @ narrow.T).float().log_softmax(-1)
            total -= gradient.gather(1, target).sum()
            gradient.exp_().scatter_add_(1, target, torch.full_like(target, -1, dtype=torch.float32))
            gradient = gradient.mul_(1 / count).to(low)
            to_hidden[start : start + size] = gradient @ narrow
            to_weight += (gradient.T @ part).to(weight.dtype)
        context.save_for_backward(to_hidden, to_weight)
        return total / count

    @staticmethod
    def backward(context: FunctionCtx, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        to_hidden, to_weight = context.saved_tensors
        return to_hidden * gradients[0], to_weight * gradients[0], None, None
