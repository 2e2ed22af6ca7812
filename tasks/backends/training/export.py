"""A learned network to a model folder that transformers and vLLM open as it is, with a probe that they must reproduce."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Trainer
from transformers.integrations import unset_hf_deepspeed_config

from tasks.backends.models.adapters import ADAPTER_CONFIG, adapter_base_path
from tasks.backends.models.loading import load_model, max_positions
from tasks.backends.models.scoring import batch_nll, tokenize
from tasks.backends.training.loss import LlamaWithChunkedLoss

PROBE = "probe.json"


def export_model(
    trainer: Trainer, tokenizer: PreTrainedTokenizerFast, folder: Path, keep_adapter: bool, probe: str
) -> None:
    """Write weights, configuration, tokenizer and the probe: the text `probe` and its log-likelihood.

    A network with an adapter is written merged, or as the adapter alone. Called by every process that trains; the first writes.
    """
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    # Shards are gathered by all processes together.
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if not trainer.is_world_process_zero():
        return
    network: Any = trainer.accelerator.unwrap_model(trainer.model)
    if state is not None:
        _make_whole(network, state)
        # Else DeepSpeed takes apart what is opened below, too, and waits for the others.
        unset_hf_deepspeed_config()
    if keep_adapter:
        network.save_pretrained(folder, selected_adapters=["default"])
        (folder / "README.md").unlink(missing_ok=True)
        _point_to_base(folder)
    else:
        _as_plain(network).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    written = load_model(folder)
    ids = tokenize(tokenizer, probe)[: max_positions(written) - 1]
    (nats,) = batch_nll(written, [ids], [1.0])
    (folder / PROBE).write_text(json.dumps({"token_ids": ids, "log_probability": -nats[0]}))


def _make_whole(network: Any, weights: dict[str, torch.Tensor]) -> None:  # noqa: ANN401
    """Put whole weights in the place of the shards of a network that learns no more."""
    for name, _ in list(network.named_parameters()):
        module, _, own = name.rpartition(".")
        setattr(network.get_submodule(module), own, torch.nn.Parameter(weights[name], requires_grad=False))
    network.tie_weights()


def _as_plain(network: Any) -> Any:  # noqa: ANN401
    """The network without an adapter or a head of ours, so that every library opens it."""
    plain = network.merge_and_unload(adapter_names=["default"]) if hasattr(network, "peft_config") else network
    if isinstance(plain, LlamaWithChunkedLoss):
        plain.__class__ = LlamaForCausalLM
    return plain


def _point_to_base(folder: Path) -> None:
    """Say where the base is from the adapter's own folder, where it is a folder too: a store can be moved."""
    below = str(adapter_base_path(folder))
    described = json.loads((folder / ADAPTER_CONFIG).read_text())
    if Path(below).is_dir():
        described["base_model_name_or_path"] = os.path.relpath(Path(below).resolve(), folder.resolve())
    # Sets of names are written in any order.
    described["target_modules"] = sorted(described["target_modules"])
    (folder / ADAPTER_CONFIG).write_text(json.dumps(described, indent=2, sort_keys=True))
