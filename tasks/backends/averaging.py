"""The mean of the weights over the end of a training, in the place of the last ones.

Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407), over every step of the last stretch: what a falling learning
rate does for the loss without the need to know when to begin.
"""

from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import get_swa_multi_avg_fn
from transformers import TrainerCallback

_average = get_swa_multi_avg_fn()


class Averaging(TrainerCallback):
    """Ends a training of `max_steps` with the mean over the last `share` of them; a checkpoint holds the mean so far.

    Must come before whatever marks a checkpoint as whole.
    """

    def __init__(self, share: float) -> None:
        self._share, self._mean, self._taken = share, list[torch.Tensor](), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ANN401, ARG002  (the library's signature)
        """Take up the mean that the checkpoint holds, where a training goes on; refuse weights that are not here between steps."""
        if any(hasattr(weight, "ds_tensor") for weight in model.parameters()):
            raise ValueError(
                "train.averaged needs the weights after each step, and DeepSpeed's ZeRO stage 3 takes them away: let this site's "
                "configuration of accelerate say stage 2 or FSDP, or set train.averaged = 0"
            )
        if state.global_step and (held := _file(args, state)).exists():
            self._mean, self._taken = torch.load(held)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Add the weights of this step, if it is one of the last."""
        if state.global_step <= min(round(state.max_steps * (1 - self._share)), state.max_steps - 1):
            return
        weights = [weight.detach() for weight in model.parameters() if weight.requires_grad]
        self._mean = self._mean or [weight.clone() for weight in weights]
        _average(self._mean, weights, self._taken)
        self._taken += 1

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Keep the mean so far beside the weights."""
        if self._taken:
            torch.save((self._mean, self._taken), _file(args, state))

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Put the mean in the place of the weights; a training that lost its way may end before there is one."""
        if not self._mean:
            return
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        with torch.no_grad():
            for weight, mean in zip(weights, self._mean, strict=True):
                weight.copy_(mean)


def _file(args: Any, state: Any) -> Path:  # noqa: ANN401
    """Every process that trains keeps the mean of its own part."""
    return Path(args.output_dir) / f"checkpoint-{state.global_step}" / f"mean-{args.process_index}.pt"
