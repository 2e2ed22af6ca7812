"""Choose the arguments of vLLM's engine for a model, the settings and this machine. vLLM itself is not imported.

The embedded engine gets them as keywords, the server as options, so both generate the same completions. Arguments of
`resources.engine` replace those chosen here, except the ones that change completions, which belong to `[generate]`.
"""

import ast
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError, did_you_mean
from heirloom.syntax import parse_module
from tasks.backends.machine import Machine
from tasks.backends.models.shape import ModelShape, resolve_dtype
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling

EngineArguments = dict[str, Any]
"""Keywords of `vllm.LLM` and their values, which JSON can represent."""

_ELSEWHERE = {
    **dict.fromkeys(
        ("model", "tokenizer", "served_model_name", "hf_config_path", "model_weights"), "the recipe's models"
    ),
    **dict.fromkeys(
        ("enable_lora", "max_lora_rank", "generation_config", "logits_processors", "skip_tokenizer_init"), ""
    ),
    **dict.fromkeys(("structured_outputs_config", "seed", "disable_log_stats", "max_logprobs", "logprobs_mode"), ""),
    **dict.fromkeys(("dtype", "quantization", "speculative_config"), "generate"),
    **dict.fromkeys(("spec_method", "spec_model", "spec_tokens"), "generate.speculative_config"),
    **dict.fromkeys(
        ("gpu_memory_utilization", "max_num_seqs", "tensor_parallel_size", "pipeline_parallel_size"), "resources"
    ),
    # No model may bring code of its own.
    "trust_remote_code": "",
    "kv_cache_memory_bytes": "resources.kv_cache_mib",
    "data_parallel_size": "resources.num_sample_workers",
}
"""Arguments that are no keys of `resources.engine`: the setting that they follow from; empty if there is none."""
PROBE_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.01}
"""Maximum difference from the log-probability of a model's probe, in nats per token, by the data type of the engine."""
_BLOCK = 32
"""Tokens of a cache block on a CPU. vLLM's default there is 128, which wastes the cache of short texts."""
_MIN_CONTEXT = 256
_CPU_CACHE_SHARE = 0.4
"""Maximum share of the free memory for the caches of all engines on a CPU, which are resident from the start."""
_CACHED_TOKENS = 1024
"""Tokens of one sequence for which a cache on a CPU is sized: few are as long as the longest, and the rest wait."""
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class EngineLoad:
    """Shape of an engine's model, and the longest sequence that it has to decode."""

    shape: ModelShape
    num_tokens: int
    """Tokens of the longest prompt and of the longest completion together."""
    lora_rank: int = 0
    """Maximum rank of adapters; 0: none."""


def engine_arguments(load: EngineLoad, settings: Sampling, resources: Resources, machine: Machine) -> EngineArguments:
    """Return the arguments of the engine for a load, without the model itself.

    Raises:
        HeirloomError: the cache of one sequence does not fit into memory, or an argument does not suit this machine.
    """
    shape = load.shape
    dtype = resolve_dtype(settings.dtype, shape)
    extra = json.loads(resources.engine or "{}")
    arguments: EngineArguments = {
        "dtype": dtype,
        "seed": 0,
        "max_model_len": context_length(load.num_tokens, shape),
        "max_num_seqs": resources.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        # A small model may generate white space without end where the schema allows it.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    if settings.quantization:
        arguments["quantization"] = settings.quantization
    if settings.speculative_config:
        arguments["speculative_config"] = json.loads(settings.speculative_config)
    if load.lora_rank:
        arguments |= {"enable_lora": True, "max_lora_rank": load.lora_rank}
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if (size := getattr(resources, name)) > 1:
            arguments[name] = size
    if machine.gpus:
        # CUDA graphs and chunked prefill are vLLM's defaults there.
        arguments["gpu_memory_utilization"] = resources.gpu_memory_utilization
        if resources.kv_cache_mib:
            arguments["kv_cache_memory_bytes"] = resources.kv_cache_mib * _MIB
        return arguments | extra
    if extra.get("enable_chunked_prefill"):
        raise HeirloomError(
            "resources.engine.enable_chunked_prefill is true, which vLLM does not support on a CPU for requests with "
            "seeds, and every request has one. Remove it."
        )
    arguments |= {
        "enforce_eager": True,
        # A request with a seed whose prompt is split into chunks ends the engine: `CPU Generator does not use offset`.
        "enable_chunked_prefill": False,
        "block_size": _BLOCK,
    }
    cache_bytes = resources.kv_cache_mib * _MIB or _cpu_cache_bytes(load, dtype, resources, machine)
    return arguments | {"kv_cache_memory_bytes": cache_bytes} | extra


def context_length(num_tokens: int, shape: ModelShape) -> int:
    """Return the maximum sequence length of an engine: the next power of two, so that few loads need a new engine."""
    rounded = max(_MIN_CONTEXT, 1 << (num_tokens - 1).bit_length())
    return min(rounded, shape.max_positions or rounded)


def cache_bytes_per_sequence(num_tokens: int, shape: ModelShape, dtype: str) -> int:
    """Return the bytes of the key-value cache of one sequence, in whole blocks."""
    return -(-num_tokens // _BLOCK) * _BLOCK * shape.kv_bytes_per_token(dtype)


def _cpu_cache_bytes(load: EngineLoad, dtype: str, resources: Resources, machine: Machine) -> int:
    shape = load.shape
    num_tokens = min(load.num_tokens, context_length(load.num_tokens, shape), _CACHED_TOKENS)
    room = int(machine.free_memory * _CPU_CACHE_SHARE) // resources.num_sample_workers
    # vLLM refuses a cache that one sequence of the maximum length does not fit into; one block is kept free.
    least = cache_bytes_per_sequence(context_length(load.num_tokens, shape) + _BLOCK, shape, dtype)
    if least > room:
        raise HeirloomError(
            f"The key-value cache of one text of {context_length(load.num_tokens, shape)} tokens takes {least // _MIB} "
            f"MiB, "
            f"but only {room // _MIB} MiB are available for it. Lower `generate.max_tokens`, or set "
            "`resources.kv_cache_mib` if more memory may be used."
        )
    wanted = max(least, resources.max_num_seqs * cache_bytes_per_sequence(num_tokens, shape, dtype))
    return min(wanted, room) // _MIB * _MIB or _MIB


def server_context(shape: ModelShape, settings: Sampling) -> int:
    """Return the tokens of the longest sequence of a server, whose prompts are not known when it starts.

    That is the length of the model, at most eight times `max_tokens` and at least 8192 tokens.
    """
    most = max(8192, 8 * settings.max_tokens)
    return min(most, shape.max_positions or most)


def server_options(arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield the command-line options of vLLM's server for these arguments."""
    for name, value in arguments.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{option}" if value else f"--no-{option}"
        elif value is not None:
            yield f"--{option}"
            yield json.dumps(value) if isinstance(value, dict | list) else str(value)


def require_engine_arguments(resources: Resources) -> None:
    """Check the names in `resources.engine` against the arguments of the installed vLLM; without it none is known.

    Raises:
        HeirloomError: vLLM has no such argument, or it follows from another setting.
    """
    known = vllm_argument_names()
    for name in json.loads(resources.engine or "{}"):
        if name in _ELSEWHERE:
            setting = _ELSEWHERE[name]
            setting = f"{setting}.{name}" if setting in ("generate", "resources") else setting
            reason = f"it follows from {setting}" if setting else "Heirloom sets it"
            raise HeirloomError(f"resources.engine.{name} cannot be set there: {reason}.")
        if known and name not in known:
            raise HeirloomError(
                f"resources.engine.{name} is not an engine argument of vLLM.{did_you_mean(name, known)} "
                "See `vllm serve --help`, with underscores in place of hyphens."
            )


@cache
def vllm_argument_names() -> frozenset[str]:
    """Return the fields of the installed vLLM's `EngineArgs`, read from its source: importing it takes seconds."""
    spec = importlib.util.find_spec("vllm")
    source = Path((spec.submodule_search_locations or ["absent"])[0], "engine/arg_utils.py") if spec else Path("absent")
    if not source.is_file():
        return frozenset()
    classes = [node for node in parse_module(source.read_text()).body if isinstance(node, ast.ClassDef)]
    fields = [node for found in classes if found.name == "EngineArgs" for node in found.body]
    return frozenset(
        node.target.id for node in fields if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )


_REMEDIES = (
    (
        r"KV cache is needed|larger than the available KV cache|No available memory for the cache|free blocks",
        "Raise `resources.kv_cache_mib` (on GPUs `resources.gpu_memory_utilization`), or lower `generate.max_tokens`.",
    ),
    (
        r"desired GPU memory utilization|CUDA out of memory|less than requested memory for kv|can't allocate memory",
        (
            "Lower `resources.gpu_memory_utilization` or `resources.kv_cache_mib`, end other processes that use the "
            "memory, or "
            "spread the model over more GPUs by `resources.tensor_parallel_size`."
        ),
    ),
    (
        r"tensor.parallel|must be divisible|world size|number of (required )?GPUs",
        "Choose a `resources.tensor_parallel_size` that divides the attention heads and that there are GPUs for.",
    ),
    (r"[Bb]float16 is only supported|compute capability", 'Set `generate.dtype = "float16"`.'),
    (r"[Qq]uantization", "Correct `generate.quantization`, or leave it out for the one of the model."),
    (r"[Ss]peculative|draft model", "Correct `generate.speculative_config`."),
    (
        r"not supported|[Uu]nsupported|recognized|no vLLM implementation|head_dim",
        'Use `generate.sampler = "transformers"` for models that vLLM does not support.',
    ),
)
"""Patterns in vLLM's messages, and the settings that help. The first match counts."""


def explain_engine_error(message: str, model: Path | str) -> str:
    """Return a sentence for an error of vLLM at its start, and the setting that helps."""
    remedy = next((advice for pattern, advice in _REMEDIES if re.search(pattern, message)), "")
    return f"vLLM cannot load {model}: {one_line(message)} " + (
        remedy or 'Correct `resources.engine` and `[generate]`, or use `generate.sampler = "transformers"`.'
    )


def one_line(message: str) -> str:
    """Return a message of vLLM in one line, with a full stop."""
    # The remedies that it proposes are arguments of `LLM` and options of its server, which recipes do not have.
    for advice in ("Try increasing", "Decrease --", "To resolve:", "Please try", "Consider increasing"):
        message = message.partition(advice)[0]
    return " ".join(message.split()).rstrip(".") + "."
