"""Load tokenizers and models. Adapters are loaded on their base model and merged into it."""

import sys
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from heirloom.errors import HeirloomError, one_line
from tasks.backends.models.adapters import adapter_base_path

_MAX_EAGER_POSITIONS = 512
"""Longest context of models whose attention is computed in the plain form."""


def load_tokenizer(model: Path | str) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model. A missing begin or padding token is replaced by the end token.

    Raises:
        HeirloomError: the tokenizer cannot be read, or has no end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise HeirloomError(f"no tokenizer can be read from {model}: {one_line(error)}") from error
    if tokenizer.eos_token is None:
        raise HeirloomError(f"the tokenizer of {model} has no token that ends a text; set eos_token there")
    tokenizer.bos_token = tokenizer.bos_token or tokenizer.eos_token
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def split_adapter(model: Path | str) -> tuple[str, Path | None]:
    """Return the base model and the adapter of a folder; for a whole model, the model and None."""
    base = adapter_base_path(Path(model))
    return (base, Path(model)) if base else (str(model), None)


def load_model(model: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a model on the GPU if there is one. An adapter is merged into its base."""
    base, adapter = split_adapter(model)
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    # Attention in the plain form has memory of length x length; up to this length it is the faster one on a CPU.
    is_short = (getattr(config, "max_position_embeddings", None) or sys.maxsize) <= _MAX_EAGER_POSITIONS
    network = AutoModelForCausalLM.from_pretrained(
        base, dtype=dtype, attn_implementation="eager" if is_short else None, trust_remote_code=False
    )
    if adapter:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, adapter).merge_and_unload()
    return network.to(default_device()).eval()


def stored_dtype(model: Path | str) -> torch.dtype:
    """Return the data type that the weights of a model are stored in; for an adapter, those of its base."""
    dtype = AutoConfig.from_pretrained(split_adapter(model)[0], trust_remote_code=False).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def native_dtype(model: Path | str) -> torch.dtype:
    """Return the data type to compute with a model in: the stored one if this hardware has it, else float32."""
    dtype = stored_dtype(model)
    if dtype == torch.bfloat16 and has_bfloat16(default_device()):
        return dtype
    if dtype == torch.float16 and torch.cuda.is_available():
        return dtype
    return torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def default_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def max_positions(network: PreTrainedModel) -> int:
    """Return the maximum sequence length; unlimited for models without position embeddings, as BLOOM and Mamba."""
    return getattr(network.config, "max_position_embeddings", None) or sys.maxsize
