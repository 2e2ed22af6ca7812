"""Load tokenizers and models. Adapters are loaded on their base model and merged into it."""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from heirloom.errors import HeirloomError, one_line
from tasks.backends.models.adapters import adapter_base_path


def load_tokenizer(model: Path | str) -> PreTrainedTokenizerFast:
    """Load the tokenizer of a model. A missing begin or padding token is replaced by the end token.

    Raises:
        HeirloomError: the tokenizer cannot be read, or has no end token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
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


def load_model(model: Path) -> PreTrainedModel:
    """Load a model in float32, on the GPU if there is one. An adapter is merged into its base."""
    base, adapter = split_adapter(model)
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    if adapter:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, adapter).merge_and_unload()
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def max_positions(network: PreTrainedModel) -> int:
    """Return the maximum sequence length; unlimited for models without position embeddings, as BLOOM and Mamba."""
    return getattr(network.config, "max_position_embeddings", None) or sys.maxsize
