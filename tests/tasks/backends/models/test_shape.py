from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heirloom.errors import HeirloomError
from tasks.backends import TransformerTraining
from tasks.backends.models.pretrained import shape_of_model
from tasks.backends.models.shape import scratch_shape, shape_of

LLAMA_7B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "torch_dtype": "float16",
}
LLAMA_70B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "dtype": "bfloat16",
    "tie_word_embeddings": False,
}
_GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
_OPT = {
    "model_type": "opt",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "ffn_dim": 3072,
    "max_position_embeddings": 2048,
    "vocab_size": 50272,
    "torch_dtype": "float16",
}
_QWEN = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "head_dim": 128,
    "num_key_value_heads": 8,
    "intermediate_size": 3072,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
_MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32000,
    "num_local_experts": 8,
}


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (LLAMA_7B, 6_738_415_616),
        (LLAMA_70B, 70_553_706_496),
        (_GPT2, 124_439_808),
        (_OPT, 125_239_296),
        (_QWEN, 596_049_920),
        (_MIXTRAL, 46_702_792_704),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)
def test_weights_counted_from_a_configuration_are_those_of_the_published_model(
    config: dict[str, Any], published: int
) -> None:
    assert shape_of(config).num_weights == pytest.approx(published, rel=0.005)


def test_the_packaged_model_has_its_weights_and_cache() -> None:
    shape = shape_of_model("smollm2")
    assert shape.num_weights == 134_515_008
    assert shape.kv_bytes_per_token("bfloat16") == 23_040
    assert (shape.dtype, shape.max_positions) == ("bfloat16", 8192)


def test_sizes_of_a_model_of_texts_and_images_are_those_of_its_language_model() -> None:
    nested = {"model_type": "llava", "text_config": LLAMA_7B, "vision_config": {"hidden_size": 1024}}
    assert shape_of(nested).num_weights == shape_of(LLAMA_7B).num_weights


def test_a_configuration_without_sizes_is_refused() -> None:
    with pytest.raises(HeirloomError, match="of mine has no hidden_size or n_embd, so the memory"):
        shape_of({"model_type": "mamba"}, "mine")


@given(rank=st.integers(1, 256))
def test_an_adapter_grows_with_its_rank_alone(rank: int) -> None:
    shape = shape_of(LLAMA_7B)
    assert shape.lora_weights(rank) == rank * shape.lora_weights(1)
    # Rank 8 on all linear layers of Llama 2 7B: 19,988,480 weights, as PEFT prints.
    assert shape.lora_weights(8) == 19_988_480


def test_a_model_from_scratch_has_the_shape_of_its_settings() -> None:
    shape = scratch_shape(TransformerTraining())
    # 2048 x 128 embeddings, two layers of four 128 x 128 and three 128 x 320 matrices, and five norms.
    assert shape.num_weights == 2048 * 128 + 2 * (4 * 128 * 128 + 3 * 128 * 320) + 5 * 128
