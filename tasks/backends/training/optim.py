"""Build the optimizer: Muon for the weight matrices and AdamW for the rest, or AdamW for everything.

transformers' Trainer takes one optimizer, so the two are combined. Muon is for the matrices of hidden layers. On small
models it reaches the loss of AdamW in about half the steps.
"""

from collections.abc import Callable, Mapping

import torch
from transformers import PreTrainedModel

from tasks.backends.settings.training import TransformerTraining
from tasks.backends.training.muon import StackedMuon


def build_optimizer(model: PreTrainedModel, settings: TransformerTraining) -> torch.optim.Optimizer | None:
    """Return the optimizer of the settings, or None for AdamW, which the Trainer builds itself."""
    return build_muon_adamw(model, settings) if settings.optimizer == "muon" else None


def build_muon_adamw(model: PreTrainedModel, settings: TransformerTraining) -> torch.optim.Optimizer:
    """Return one optimizer for all parameters of a model."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    if head := model.get_output_embeddings():
        embeddings.add(id(head.weight))
    for parameter in model.parameters():
        hidden = parameter.ndim == 2 and id(parameter) not in embeddings
        (matrices if hidden else others).append(parameter)
    muon = StackedMuon(matrices, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    adamw = torch.optim.AdamW(
        others, lr=settings.embedding_learning_rate, betas=(0.9, 0.95), weight_decay=settings.weight_decay
    )
    return _CombinedOptimizer([muon, adamw])


class _CombinedOptimizer(torch.optim.Optimizer):
    """Steps several optimizers. It shares their parameter groups, so one learning rate schedule changes all of them."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], defaults={})
        self._share(self.param_groups)

    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Step every optimizer."""
        for part in self._parts:
            part.step(closure)

    def state_dict(self) -> dict[str, list[dict[str, object]]]:
        """Return the states of all optimizers."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: Mapping[str, list[dict[str, object]]]) -> None:
        """Load the states of all optimizers, and share their parameter groups again, which loading replaces."""
        for part, part_state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(part_state)
        self._share([group for part in self._parts for group in part.param_groups])

    def _share(self, groups: list[dict[str, object]]) -> None:
        self.param_groups, start = groups, 0
        for part in self._parts:
            part.param_groups = groups[start : start + len(part.param_groups)]
            start += len(part.param_groups)
