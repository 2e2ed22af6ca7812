"""Convert a GGUF file of a Llama model to a folder that transformers and vLLM load. Runs in a process of its own."""

import os
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

_GGUF_ONLY = (
    "quantization_config",
    "_name_or_path",
    "_model_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
)
"""Keys of the configuration that belong to the file, not to the model."""


def convert(source: str, folder: str) -> None:
    """Write the weights in bfloat16, the configurations, and the tokenizer with its chat template to a new folder.

    transformers refuses to save a model that it has read from GGUF, so a plain model takes over its weights.
    """
    path = Path(source)
    loaded = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    values = {key: value for key, value in loaded.config.to_dict().items() if key not in _GGUF_ONLY}
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    network = LlamaForCausalLM(LlamaConfig(**{**values, **special}))
    network.load_state_dict(loaded.state_dict())
    network.generation_config = GenerationConfig(**special)
    network.to(torch.bfloat16).save_pretrained(folder)
    # transformers knows byte-level tokenizers of GGUF files in one form. SmolLM2 (`tokenizer.ggml.pre = smollm`) splits
    # numbers into digits first: LLAMA_VOCAB_PRE_TYPE_SMOLLM in llama.cpp, src/llama-vocab.cpp.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.model_max_length = network.config.max_position_embeddings
    tokenizer.save_pretrained(folder)
    # The caller renames the folder when everything is on the disk.
    for written in (*Path(folder).iterdir(), Path(folder)):
        descriptor = os.open(written, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
