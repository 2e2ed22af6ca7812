"""Read the shape of a model from its config.json: number of weights, key-value cache per token, data type.

Nothing is loaded, and torch is not imported, so that a run of any size can be planned on any machine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError
from tasks.backends.settings.training import TransformerTraining

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_NAMES = {
    "hidden_size": ("hidden_size", "n_embd", "n_embed", "d_model"),
    "num_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_heads": ("num_attention_heads", "n_head", "n_heads"),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    "max_positions": ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"),
}
"""Names of one value in the configurations of different architectures."""
_UNGATED = ("gpt2", "opt", "gpt_neox", "gptj", "bloom", "gpt_bigcode", "phi", "falcon", "mpt", "starcoder2")
"""Architectures with two matrices in each feed-forward layer; all others (Llama, Qwen, Mistral, ...) have three."""
_UNTIED = (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "gpt_neox",
    "phi3",
    "olmo2",
    "olmo3",
)
"""Architectures whose output head is a matrix of its own unless the configuration ties it."""
_LEARNED_POSITIONS = ("gpt2", "opt", "gpt_bigcode")
"""Architectures with a table of position embeddings."""


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Sizes of a decoder-only transformer."""

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    """Maximum sequence length; 0 if the configuration does not limit it."""
    dtype: str
    """Data type of the stored weights."""
    tied: bool = True
    """Whether the output head is the embedding matrix."""
    gated: bool = True
    num_experts: int = 1
    position_table: bool = False

    @property
    def attention_weights(self) -> int:
        """Weights of the four attention matrices of one layer."""
        return 2 * self.hidden_size * self.head_size * (self.num_heads + self.num_kv_heads)

    @property
    def feed_forward_weights(self) -> int:
        """Weights of the feed-forward matrices of one layer, of all experts."""
        return (3 if self.gated else 2) * self.hidden_size * self.intermediate_size * self.num_experts

    @property
    def embedding_weights(self) -> int:
        """Weights of embeddings and output head."""
        positions = self.max_positions if self.position_table else 0
        return (self.vocab_size * (1 if self.tied else 2) + positions) * self.hidden_size

    @property
    def num_weights(self) -> int:
        """All weights. Biases are left out: below 1 % of any model."""
        per_layer = self.attention_weights + self.feed_forward_weights + 2 * self.hidden_size
        return self.num_layers * per_layer + self.embedding_weights + self.hidden_size

    def lora_weights(self, rank: int) -> int:
        """Weights of a LoRA adapter on all linear layers: rank * (inputs + outputs) of each, arXiv 2106.09685."""
        heads, kv_heads = self.num_heads * self.head_size, self.num_kv_heads * self.head_size
        attention = 2 * (self.hidden_size + heads) + 2 * (self.hidden_size + kv_heads)
        matrices = (3 if self.gated else 2) * self.num_experts
        return rank * self.num_layers * (attention + matrices * (self.hidden_size + self.intermediate_size))

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Bytes of the key-value cache for one token: a key and a value of each layer and each of its KV heads."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_size * DTYPE_BYTES[dtype]


def read_shape(folder: Path) -> ModelShape:
    """Read the shape of the model in a folder.

    Raises:
        HeirloomError: the folder has no readable config.json, or one without the sizes of a decoder-only transformer.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise HeirloomError(f"{folder} has no readable config.json: {error}.") from error
    return shape_of(config, str(folder))


def shape_of(config: Mapping[str, Any], name: str = "the model") -> ModelShape:
    """Return the shape that a configuration of transformers describes.

    Raises:
        HeirloomError: a size is missing; the message names it.
    """
    # Models of text and images have the language model's sizes in a table of its own.
    config = {**config, **config.get("text_config", {})}
    kind = str(config.get("model_type", ""))
    hidden_size = _size(config, "hidden_size", name)
    # State-space models have no attention, and no key-value cache.
    num_heads = _first(config, "num_heads")
    return ModelShape(
        hidden_size=hidden_size,
        num_layers=_size(config, "num_layers", name),
        num_heads=num_heads,
        num_kv_heads=int(config.get("num_key_value_heads") or (1 if config.get("multi_query") else num_heads)),
        head_size=int(config.get("head_dim") or (hidden_size // num_heads if num_heads else 0)),
        # GPT-2 and its relatives have no such key, and four times the width.
        intermediate_size=int(
            config.get("moe_intermediate_size") or _first(config, "intermediate_size") or 4 * hidden_size
        ),
        vocab_size=int(config.get("vocab_size", 0)),
        max_positions=_first(config, "max_positions"),
        dtype=_stored_dtype(config),
        # A configuration can leave out what is the default of its architecture.
        tied=bool(config.get("tie_word_embeddings", kind not in _UNTIED)),
        gated=kind not in _UNGATED,
        num_experts=int(config.get("num_local_experts") or config.get("num_experts") or 1),
        position_table=kind in _LEARNED_POSITIONS,
    )


def resolve_dtype(dtype: str, shape: ModelShape) -> str:
    """Return the data type in which a model is sampled; `auto` is that of the stored weights."""
    return shape.dtype if dtype == "auto" else dtype


def scratch_shape(training: TransformerTraining) -> ModelShape:
    """Return the shape of the model that is trained from scratch with these settings, a Llama in float32."""
    return ModelShape(
        hidden_size=training.hidden_size,
        num_layers=training.num_hidden_layers,
        num_heads=training.num_attention_heads,
        num_kv_heads=training.num_attention_heads,
        head_size=training.hidden_size // training.num_attention_heads,
        intermediate_size=int(training.hidden_size * 8 / 3) // 32 * 32,
        vocab_size=training.vocab_size,
        max_positions=training.context_length,
        dtype="float32",
    )


def _stored_dtype(config: Mapping[str, Any]) -> str:
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    return name if name in DTYPE_BYTES else "bfloat16"


def _first(config: Mapping[str, Any], key: str) -> int:
    return next((int(config[name]) for name in _NAMES[key] if config.get(name)), 0)


def _size(config: Mapping[str, Any], key: str, name: str) -> int:
    if value := _first(config, key):
        return value
    raise HeirloomError(
        f"The configuration of {name} has no {' or '.join(_NAMES[key][:2])}, so the memory of this model cannot be "
        f"estimated."
    )
