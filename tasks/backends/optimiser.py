"""The optimiser of small from-scratch models: Muon on the matrices, AdamW on the embedding and the norms.

Both come from torch; this file only lets transformers' Trainer see the two as one. Muon wants matrices of
hidden layers; on a model this small it reaches the same loss in about half the steps of AdamW alone.
"""

from typing import Any

import torch

from tasks.backends import TransformerTraining


def muon_and_adamw(model: torch.nn.Module, settings: TransformerTraining) -> torch.optim.Optimizer:
    """One optimiser over all parameters of `model`, learning rates as the settings say."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inside else others).append(parameter)
    muon = torch.optim.Muon(matrices, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    adamw = torch.optim.AdamW(
        others, lr=settings.embedding_learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    return _Both([muon, adamw])


class _Both(torch.optim.Optimizer):
    """Steps its parts in turn; their parameter groups are shared, so one schedule moves them all."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], defaults={})
        place = 0
        for part in parts:
            part.param_groups = self.param_groups[place : place + len(part.param_groups)]
            place += len(part.param_groups)

    def step(self, closure: Any = None) -> None:  # noqa: ANN401  (torch's signature)
        """Step every part."""
        for part in self._parts:
            part.step(closure)
