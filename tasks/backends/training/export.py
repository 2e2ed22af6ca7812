"""Write a trained model to a folder that transformers and vLLM can load, with a probe that they must reproduce."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast, Trainer
from transformers.integrations import unset_hf_deepspeed_config

from tasks.backends.models.adapters import ADAPTER_CONFIG, adapter_base_path
from tasks.backends.models.loading import load_model, max_positions
from tasks.backends.models.scoring import batch_nll, tokenize
from tasks.backends.training.loss import LlamaWithChunkedLoss

PROBE = "probe.json"
_MAX_PROBE_TOKENS = 512
"""Tokens of a probe, for which every engine and server has room."""


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """How a model is written: its adapter alone or merged into its base, the data type, and the text of the probe."""

    keep_adapter: bool
    dtype: torch.dtype
    """Data type of whole models. A base in bfloat16 has descendants in bfloat16, though they are trained in float32."""
    probe: str


def export_model(trainer: Trainer, tokenizer: PreTrainedTokenizerFast, folder: Path, export: ExportFormat) -> None:
    """Write weights, configuration, tokenizer and the probe: token ids of a text and their log-likelihood.

    Called by every process of a distributed training; only the main process writes.

    Args:
        trainer: The trainer, after training.
        tokenizer: Written with the model.
        folder: Output folder.
        export: What to write.
    """
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    # Gathering shards needs all processes.
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded else None
    if not trainer.is_world_process_zero():
        return
    network: PreTrainedModel = trainer.accelerator.unwrap_model(trainer.model)
    if state is not None:
        _make_whole(network, state, export.dtype)
        # Otherwise DeepSpeed would shard the model that is loaded below too, and wait for the other processes.
        unset_hf_deepspeed_config()
    if export.keep_adapter:
        network.save_pretrained(folder, selected_adapters=["default"])
        (folder / "README.md").unlink(missing_ok=True)
        _point_to_base(folder)
        _write_tokenizer_and_probe(tokenizer, folder, export.probe)
    else:
        export_network(network, tokenizer, folder, export)


def export_network(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, export: ExportFormat
) -> None:
    """Write a network that is whole in this process, its tokenizer, and the probe."""
    plain = _as_plain(network)
    # A network that was sharded is in this data type already, and cannot be converted.
    converted = plain if plain.dtype == export.dtype else plain.to(export.dtype)
    converted.save_pretrained(folder)
    _write_tokenizer_and_probe(tokenizer, folder, export.probe)


def _write_tokenizer_and_probe(tokenizer: PreTrainedTokenizerFast, folder: Path, probe: str) -> None:
    tokenizer.save_pretrained(folder)
    written = load_model(folder)
    ids = tokenize(tokenizer, probe)[: min(max_positions(written) - 1, _MAX_PROBE_TOKENS)]
    (nats,) = batch_nll(written, [ids], [1.0])
    (folder / PROBE).write_text(json.dumps({"token_ids": ids, "log_probability": -nats[0]}))


def _make_whole(network: PreTrainedModel, weights: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    """Replace the shards of a trained network by whole weights of this data type."""
    for name, _ in list(network.named_parameters()):
        module, _, own = name.rpartition(".")
        setattr(network.get_submodule(module), own, torch.nn.Parameter(weights[name].to(dtype), requires_grad=False))
    network.tie_weights()


def _as_plain(network: PreTrainedModel) -> PreTrainedModel:
    """Return the network with its adapter merged and as a class of transformers, so that every library can load it."""
    plain = network.merge_and_unload(adapter_names=["default"]) if hasattr(network, "peft_config") else network
    if isinstance(plain, LlamaWithChunkedLoss):
        # The class is written to config.json. The subclass has the same parameters, and differs in its loss alone.
        plain.__class__ = LlamaForCausalLM
    return plain


def _point_to_base(folder: Path) -> None:
    """Store the path of a local base model relative to the adapter, so that the store can be moved."""
    base = Path(str(adapter_base_path(folder)))
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    if base.is_dir():
        config["base_model_name_or_path"] = os.path.relpath(base.resolve(), folder.resolve())
    # peft writes a set, in no fixed order.
    config["target_modules"] = sorted(config["target_modules"])
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
