import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heirloom.errors import HeirloomError
from tasks.backends import Resources, Sampling
from tasks.backends.inference.engine_arguments import (
    EngineLoad,
    context_length,
    engine_arguments,
    explain_engine_error,
    require_engine_arguments,
    server_options,
    vllm_argument_names,
)
from tasks.backends.machine import Gpu, Machine
from tasks.backends.models.pretrained import SMOLLM2_CONFIG
from tasks.backends.models.shape import shape_of

_GIB = 1 << 30
_CPU = Machine(memory=24 * _GIB, free_memory=20 * _GIB)
_GPUS = replace(_CPU, gpus=tuple(Gpu(name=str(index), memory=80 * _GIB, free_memory=79 * _GIB) for index in range(4)))


def _arguments(machine: Machine, *, num_tokens: int = 300, **settings: Any) -> dict[str, Any]:
    resources = settings.pop("resources", {})
    load = EngineLoad(shape=shape_of(SMOLLM2_CONFIG), num_tokens=num_tokens, lora_rank=settings.pop("lora_rank", 0))
    return engine_arguments(load, Sampling.model_validate(settings), Resources.model_validate(resources), machine)


def test_on_gpus_the_engine_has_graphs_chunked_prefill_and_most_of_the_memory() -> None:
    assert _arguments(_GPUS) == {
        "dtype": "bfloat16",
        "seed": 0,
        "max_model_len": 512,
        "max_num_seqs": 256,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "gpu_memory_utilization": 0.9,
    }


def test_on_a_cpu_the_engine_is_eager_and_never_splits_a_prompt() -> None:
    arguments = _arguments(_CPU)
    assert (arguments["enforce_eager"], arguments["enable_chunked_prefill"]) == (True, False)
    assert "gpu_memory_utilization" not in arguments
    # 2 (key and value) x 30 layers x 3 heads x 64 x 2 bytes = 23,040 bytes a token; 300 tokens are ten blocks of 32.
    assert arguments["kv_cache_memory_bytes"] == 256 * 320 * 23040 >> 20 << 20


def test_settings_of_parallelism_quantization_and_speculation_reach_the_engine() -> None:
    draft = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 4}
    arguments = _arguments(
        _GPUS,
        quantization="fp8",
        speculative_config=draft,
        dtype="float16",
        lora_rank=16,
        resources={
            "tensor_parallel_size": 2,
            "pipeline_parallel_size": 2,
            "gpu_memory_utilization": 0.5,
            "kv_cache_mib": 4096,
            "max_num_seqs": 1024,
        },
    )
    assert arguments["speculative_config"] == draft
    assert {name: arguments[name] for name in ("quantization", "dtype", "enable_lora", "max_lora_rank")} == {
        "quantization": "fp8",
        "dtype": "float16",
        "enable_lora": True,
        "max_lora_rank": 16,
    }
    assert (arguments["tensor_parallel_size"], arguments["pipeline_parallel_size"]) == (2, 2)
    assert (arguments["gpu_memory_utilization"], arguments["kv_cache_memory_bytes"]) == (0.5, 4 * _GIB)
    assert arguments["max_num_seqs"] == 1024


def test_any_other_argument_replaces_the_one_that_was_chosen() -> None:
    engine = {"max_num_batched_tokens": 16384, "enforce_eager": True, "cudagraph_capture_sizes": [1, 2, 4]}
    arguments = _arguments(_GPUS, resources={"engine": engine})
    assert {name: arguments[name] for name in engine} == engine
    assert _arguments(_CPU, resources={"engine": {"block_size": 64}})["block_size"] == 64


def test_chunked_prefill_is_refused_on_a_cpu_alone() -> None:
    engine = {"engine": {"enable_chunked_prefill": True}}
    assert _arguments(_GPUS, resources=engine)["enable_chunked_prefill"] is True
    with pytest.raises(HeirloomError, match="which vLLM does not support on a CPU for requests with seeds"):
        _arguments(_CPU, resources=engine)


def test_a_cache_on_a_cpu_takes_a_bounded_share_of_the_free_memory_of_all_engines() -> None:
    small = replace(_CPU, free_memory=2 * _GIB)
    alone = _arguments(small)["kv_cache_memory_bytes"]
    assert alone == int(2 * _GIB * 0.4) >> 20 << 20
    assert _arguments(small, resources={"num_sample_workers": 2})["kv_cache_memory_bytes"] <= alone / 2


def test_a_cache_that_does_not_hold_one_text_is_refused_with_settings_that_exist() -> None:
    with pytest.raises(HeirloomError, match=r"one text of 8192 tokens takes 180 MiB, but only 40 MiB") as refusal:
        _arguments(replace(_CPU, free_memory=100 << 20), num_tokens=8000)
    assert "generate.max_tokens" in str(refusal.value)
    assert _arguments(replace(_CPU, free_memory=100 << 20), num_tokens=8000, resources={"kv_cache_mib": 256})


@given(st.integers(1, 20000), st.sampled_from([64, 1024, 8192, 0]))
def test_a_context_holds_the_longest_sequence_or_is_that_of_the_model(num_tokens: int, positions: int) -> None:
    length = context_length(num_tokens, shape_of({**SMOLLM2_CONFIG, "max_position_embeddings": positions}))
    assert length == positions or length >= num_tokens
    assert not positions or length <= positions
    # At most twice as long as needed, so that activations and caches stay small.
    assert length <= max(256, 2 * num_tokens)


def test_a_server_gets_the_same_arguments_as_options() -> None:
    options = list(server_options(_arguments(_CPU)))
    assert options[:2] == ["--dtype", "bfloat16"]
    assert {"--enforce-eager", "--no-enable-chunked-prefill", "--enable-prefix-caching"} <= set(options)
    assert json.loads(options[options.index("--structured-outputs-config") + 1])["backend"] == "xgrammar"


@pytest.mark.skipif(not vllm_argument_names(), reason="needs vLLM")
def test_arguments_that_vllm_does_not_have_are_refused_with_the_closest_one() -> None:
    assert {"max_num_batched_tokens", "enable_prefix_caching", "enforce_eager"} <= vllm_argument_names()
    require_engine_arguments(Resources.model_validate({"engine": {"max_num_batched_tokens": 4096}}))
    with pytest.raises(HeirloomError, match=r"Did you mean `max_num_batched_tokens`\?"):
        require_engine_arguments(Resources.model_validate({"engine": {"max_batched_tokens": 4096}}))


@pytest.mark.skipif(not vllm_argument_names(), reason="needs vLLM")
def test_every_argument_that_is_chosen_is_one_of_vllm() -> None:
    for machine in (_CPU, _GPUS):
        settings: dict[str, Any] = {"quantization": "fp8", "speculative_config": {"method": "ngram"}, "lora_rank": 8}
        assert set(_arguments(machine, **settings)) <= vllm_argument_names()


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("dtype", "it follows from generate.dtype"),
        ("tensor_parallel_size", "it follows from resources.tensor_parallel_size"),
        ("data_parallel_size", "it follows from resources.num_sample_workers"),
        ("kv_cache_memory_bytes", "it follows from resources.kv_cache_mib"),
        ("logits_processors", "Heirloom sets it"),
    ],
)
def test_arguments_that_follow_from_other_settings_are_refused(name: str, setting: str) -> None:
    with pytest.raises(HeirloomError, match=f"resources.engine.{name} cannot be set there: {setting}"):
        require_engine_arguments(Resources.model_validate({"engine": {name: 2}}))


def test_the_table_of_arguments_is_read_from_toml_and_from_its_own_text() -> None:
    resources = Resources.model_validate({"engine": {"a": [1, {"b": 2}]}})
    assert resources == Resources.model_validate(resources.model_dump(mode="json"))
    assert isinstance(hash(resources), int)
    with pytest.raises(ValueError, match="expected a table of names and values"):
        Resources(engine="eager")


@pytest.mark.parametrize(
    ("message", "setting"),
    [
        (
            (
                "To serve at least one request with the model's max seq len (8192), (0.18 GiB KV cache is needed, "
                "which is larger than the available KV cache memory (0.02 GiB). Try increasing "
                "`gpu_memory_utilization`"
            ),
            "Raise `resources.kv_cache_mib`",
        ),
        (
            (
                "Free memory on device (3.1/79.1 GiB) on startup is less than desired GPU memory utilization (0.9, "
                "71.2 GiB)."
            ),
            "Lower `resources.gpu_memory_utilization`",
        ),
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", "Lower `resources.gpu_memory_utilization`"),
        ("Total number of attention heads (9) must be divisible by tensor parallel size (2).", "tensor_parallel_size"),
        ("Bfloat16 is only supported on GPUs with compute capability of at least 8.0.", 'generate.dtype = "float16"'),
        ("Unknown quantization method: fp7.", "Correct `generate.quantization`"),
        ("Model architectures ['Strange'] are not supported for now.", 'generate.sampler = "transformers"'),
        ("Something else entirely", "Correct `resources.engine`"),
    ],
)
def test_an_error_of_vllm_is_a_sentence_with_a_setting_that_helps(message: str, setting: str) -> None:
    explained = explain_engine_error(message, "the-model")
    assert explained.startswith(f"vLLM cannot load the-model: {message.partition(' Try increasing')[0].rstrip('.')}.")
    assert setting in explained
    assert "Try increasing" not in explained
