"""Load a tokenizer and a model folder; an adapter is split from its base and merged into it."""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from heirloom.errors import HeirloomError
from tasks.backends.models.adapters import adapter_base_path


def load_tokenizer(model: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer of a model; one without a token that begins, or pads, takes the one that ends for it.

    Raises:
        HeirloomError: there is none, or it has no token that ends a text.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError, KeyError) as error:
        raise HeirloomError(f"no tokenizer can be read from {model}: {first_line(error)}") from error
    if tokenizer.eos_token is None:
        raise HeirloomError(f"the tokenizer of {model} has no token that ends a text; set eos_token there")
    tokenizer.bos_token = tokenizer.bos_token or tokenizer.eos_token
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def split_adapter(model: Path | str) -> tuple[str, Path | None]:
    """The model itself; or what an adapter is laid over, and the adapter.

    An adapter of a store says where its base is from its own folder, so that the store can be moved.
    """
    below = adapter_base_path(Path(model))
    return (below, Path(model)) if below else (str(model), None)


def load_model(model: Path) -> Any:  # noqa: ANN401
    """The model in float32 on the card, where there is one; an adapter is merged into its base."""
    below, above = split_adapter(model)
    network = AutoModelForCausalLM.from_pretrained(below, dtype=torch.float32, attn_implementation="eager")
    if above:
        from peft import PeftModel

        network = PeftModel.from_pretrained(network, above).merge_and_unload()
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def max_positions(network: Any) -> int:  # noqa: ANN401
    """Tokens that it sees at once: any number, where it has no places of its own, as BLOOM and Mamba."""
    return getattr(network.config, "max_position_embeddings", None) or sys.maxsize


def first_line(error: Exception) -> str:
    """First line of an error's message, or its type where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
