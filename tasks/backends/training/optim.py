"""The optimiser of a training: Muon on the matrices of small models and AdamW on the rest, or AdamW on everything.

This file only lets transformers' Trainer see the two as one. Muon wants matrices of
hidden layers; on a model this small it reaches the same loss in about half the steps of AdamW alone.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from tasks.backends.settings.training import TransformerTraining
from tasks.backends.training.muon import StackedMuon


def build_optimizer(model: PreTrainedModel, settings: TransformerTraining) -> torch.optim.Optimizer | None:
    """The optimiser that the settings name; None for AdamW, which the Trainer makes by itself."""
    return build_muon_adamw(model, settings) if settings.optimizer == "muon" else None


def build_muon_adamw(model: PreTrainedModel, settings: TransformerTraining) -> torch.optim.Optimizer:
    """One optimiser over all parameters of `model`, learning rates as the settings say."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    tables = {id(one.weight) for one in model.modules() if isinstance(one, torch.nn.Embedding)}
    if head := model.get_output_embeddings():
        tables.add(id(head.weight))
    for parameter in model.parameters():
        inside = parameter.ndim == 2 and id(parameter) not in tables
        (matrices if inside else others).append(parameter)
    muon = StackedMuon(matrices, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    adamw = torch.optim.AdamW(
        others, lr=settings.embedding_learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    return _CombinedOptimizer([muon, adamw])


class _CombinedOptimizer(torch.optim.Optimizer):
    """Steps its parts in turn; their parameter groups are shared, so one schedule moves them all."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], defaults={})
        self._share(self.param_groups)

    def step(self, closure: Any = None) -> None:  # noqa: ANN401  (torch's signature)
        """Step every part."""
        for part in self._parts:
            part.step(closure)

    def state_dict(self) -> dict[str, Any]:
        """What every part remembers."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Give every part its memory back; a part that loads makes its groups anew."""
        for part, remembered in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(remembered)
        self._share([group for part in self._parts for group in part.param_groups])

    def _share(self, groups: list[dict[str, Any]]) -> None:
        self.param_groups, place = groups, 0
        for part in self._parts:
            part.param_groups = groups[place : place + len(part.param_groups)]
            place += len(part.param_groups)
