"""Estimate the memory and disk space of a run from the shape of its model, before anything is loaded.

The formulas are those of the usual references, for the way in which this project trains and samples:

* weights, gradients and optimizer states: Rajbhandari et al. 2020, "ZeRO", arXiv 1910.02054, section 3.1;
* activations: Korthikanti et al. 2022, arXiv 2205.05198, section 4, recounted for gated layers with RMSNorm;
* LoRA: Hu et al. 2021, arXiv 2106.09685; only the adapter has gradients and optimizer states;
* key-value cache: Kwon et al. 2023, "PagedAttention", arXiv 2309.06180, section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from tasks.backends.inference.engine_arguments import EngineLoad, context_length, engine_arguments
from tasks.backends.machine import Machine
from tasks.backends.models.shape import DTYPE_BYTES, ModelShape, resolve_dtype
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.settings.training import TransformerTraining

_GIB = 1 << 30
_PROCESS_BYTES = {"training": int(0.9 * _GIB), "sampling": int(0.9 * _GIB), "scoring": int(0.7 * _GIB)}
"""Memory of a worker process with its libraries and no model, as measured."""
_CUDA_BYTES = int(0.6 * _GIB)
"""Memory of a GPU that a process takes for the libraries of CUDA."""
_BATCHED_TOKENS = 8192
"""Tokens that vLLM's engine computes in one step, its default on a CPU and on most GPUs."""
_BF16_MIN_WIDTH = 512
"""Width from which `train.precision = "auto"` takes bfloat16 on a CPU."""
_NUM_CHECKPOINTS = 3
"""Checkpoints that are on the disk at once: two are kept while the third is written."""
_HEAD_POSITIONS = 256
"""Positions whose logits a training or a scoring holds at once on a CPU."""


_RECORD_TOKENS = 2048
"""Assumed tokens of a long record, where the context length is that of the model."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes that one process of a stage needs, by what they hold."""

    stage: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes of all parts together."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """What one process of a training computes in a step, and in which way."""

    sequences: int
    length: int
    bf16: bool
    processes: int = 1
    """Processes that share weights and optimizer states, with FSDP or DeepSpeed."""
    on_gpu: bool = False


def training_batch(
    shape: ModelShape, settings: TransformerTraining, resources: Resources, machine: Machine
) -> TrainingBatch:
    """Return the share of one process in a step, on this machine and with the site's accelerate configuration."""
    configuration: Mapping[str, object] = {}
    if resources.accelerate_config and Path(resources.accelerate_config).is_file():
        configuration = yaml.safe_load(Path(resources.accelerate_config).read_text()) or {}
    processes = int(str(configuration.get("num_processes", 1)))
    is_sharded = str(configuration.get("distributed_type", "")).upper() in ("FSDP", "DEEPSPEED")
    automatic = machine.bfloat16 and (bool(machine.gpus) or shape.hidden_size >= _BF16_MIN_WIDTH)
    # With the context of the model, rows are as long as the longest record of their batch.
    length = settings.context_length or _RECORD_TOKENS
    return TrainingBatch(
        sequences=max(1, settings.batch_size // processes),
        length=min(length, shape.max_positions or length),
        bf16=automatic if settings.precision == "auto" else settings.precision == "bfloat16",
        processes=processes if is_sharded else 1,
        on_gpu=bool(machine.gpus),
    )


def training_estimate(shape: ModelShape, settings: TransformerTraining, batch: TrainingBatch) -> Estimate:
    """Return the memory of one training process at its peak, the backward pass of a step."""
    num_weights, shards = shape.num_weights, batch.processes
    trained = shape.lora_weights(settings.lora_rank) if settings.lora_rank else num_weights
    tokens = batch.sequences * batch.length * (2 if settings.objective == "dpo" else 1)
    parts = {
        "libraries": _CUDA_BYTES if batch.on_gpu else _PROCESS_BYTES["training"],
        "weights": 4 * (num_weights + (trained if settings.lora_rank else 0)) // shards,
        "gradients": 4 * trained // shards,
        "optimizer states": _optimizer_bytes(shape, settings, trained) // shards,
        "activations": tokens * _activation_bytes_per_token(shape, settings, batch),
        "logits": _logit_bytes(shape, settings, tokens),
    }
    if batch.bf16:
        # Autocast keeps a copy of each matrix in 16 bits from the forward to the backward pass.
        parts["weights in bfloat16"] = 2 * num_weights // shards
    if settings.objective == "dpo" and not settings.lora_rank:
        parts["reference model"] = 4 * num_weights // shards
    return Estimate(stage="training", parts=parts)


def _optimizer_bytes(shape: ModelShape, settings: TransformerTraining, trained: int) -> int:
    """AdamW has two moments for each trained weight; Muon one for those of the matrices, AdamW for the embeddings."""
    if settings.optimizer == "muon":
        return 4 * (trained - shape.embedding_weights) + 8 * shape.embedding_weights
    return 8 * trained


def _activation_bytes_per_token(shape: ModelShape, settings: TransformerTraining, batch: TrainingBatch) -> int:
    """Bytes that the backward pass needs of one token.

    Of each layer: input and output of two norms (32 bits), inputs of seven linear layers, queries, keys, values and the
    output of attention, gate, activated gate and up-projection (16 bits under autocast, else 32). Attention in plain
    form also keeps length x heads probabilities, three times.
    """
    width, heads = shape.hidden_size, shape.num_heads * shape.head_size
    kv_heads, feed_forward = shape.num_kv_heads * shape.head_size, shape.intermediate_size
    size = 2 if batch.bf16 else 4
    norms = 4 * 4 * width
    # In 32 bits a linear layer keeps the output of the norm, which is counted above.
    linear_inputs = 5 * size * width if batch.bf16 else 0
    layer = norms + linear_inputs + size * (3 * heads + 2 * kv_heads + 4 * feed_forward)
    if batch.length <= 128 and not batch.on_gpu:
        layer += 3 * 4 * shape.num_heads * batch.length
    if settings.gradient_checkpointing:
        return shape.num_layers * 4 * width + layer
    return shape.num_layers * layer


def _logit_bytes(shape: ModelShape, settings: TransformerTraining, tokens: int) -> int:
    """Logits with their logarithms and gradients; by chunks with `chunked_cross_entropy`, except for DPO."""
    if settings.chunked_cross_entropy and settings.objective != "dpo":
        gradient = 4 * shape.vocab_size * shape.hidden_size
        return min(tokens, _HEAD_POSITIONS) * shape.vocab_size * 12 + gradient
    return tokens * shape.vocab_size * 12


def sampling_estimate(load: EngineLoad, settings: Sampling, resources: Resources, machine: Machine) -> Estimate:
    """Return the memory of one sampling process: of each of its GPUs, or of main memory without GPUs.

    Raises:
        HeirloomError: the cache of one text does not fit.
    """
    shape, dtype = load.shape, resolve_dtype(settings.dtype, load.shape)
    size = DTYPE_BYTES[dtype]
    shards = resources.gpus_per_local_engine
    weights = size * shape.num_weights // shards
    if settings.sampler == "transformers":
        cache = load.num_tokens * shape.kv_bytes_per_token(dtype)
        parts = {"libraries": _PROCESS_BYTES["scoring"], "weights": weights, "key-value cache": cache}
        return Estimate(stage="sampling", parts=parts)
    activations = (
        min(_BATCHED_TOKENS, resources.max_num_seqs * load.num_tokens)
        * size
        * (4 * shape.hidden_size + 2 * shape.intermediate_size // shards)
    )
    logits = 3 * 4 * resources.max_num_seqs * shape.vocab_size
    parts = {"weights": weights, "activations": activations, "logits": logits}
    if machine.gpus:
        memory = min(gpu.memory for gpu in machine.gpus)
        granted = int(memory * resources.gpu_memory_utilization)
        least = context_length(load.num_tokens, shape) * shape.kv_bytes_per_token(dtype)
        cache = resources.kv_cache_mib << 20 or max(least // shards, granted - sum(parts.values()) - _CUDA_BYTES)
        return Estimate(stage="sampling", parts={"libraries": _CUDA_BYTES, **parts, "key-value cache": cache})
    # vLLM's CPU kernels keep a packed copy of the output head.
    parts["weights"] += size * shape.vocab_size * shape.hidden_size
    cache = engine_arguments(load, settings, resources, machine)["kv_cache_memory_bytes"]
    return Estimate(
        stage="sampling", parts={"libraries": _PROCESS_BYTES["sampling"], **parts, "key-value cache": cache}
    )


def scoring_estimate(shape: ModelShape, machine: Machine) -> Estimate:
    """Return the memory of the process that scores texts and held-out records with a trained model."""
    size = DTYPE_BYTES[shape.dtype] if machine.bfloat16 else 4
    # A batch has at most 4096 positions, of which one layer is held at a time.
    activations = 4096 * size * (8 * shape.hidden_size + 3 * shape.intermediate_size)
    return Estimate(
        stage="scoring",
        parts={
            "libraries": _CUDA_BYTES if machine.gpus else _PROCESS_BYTES["scoring"],
            "weights": size * shape.num_weights,
            "activations": activations,
            "logits": _HEAD_POSITIONS * shape.vocab_size * 8,
        },
    )


def disk_estimate(shape: ModelShape, settings: TransformerTraining, num_models: int) -> Estimate:
    """Return the disk space of the models of a run, and of the checkpoints of one training."""
    trained = shape.lora_weights(settings.lora_rank) if settings.lora_rank else shape.num_weights
    model = 4 * trained if settings.save_adapter_only else DTYPE_BYTES[shape.dtype] * shape.num_weights
    checkpoint = 4 * trained + _optimizer_bytes(shape, settings, trained)
    return Estimate(stage="disk", parts={"models": num_models * model, "checkpoints": _NUM_CHECKPOINTS * checkpoint})
