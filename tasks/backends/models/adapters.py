"""Read the configuration of a LoRA adapter: its base model and its rank."""

import json
from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"


def adapter_base_path(model: Path) -> str | None:
    """Return the base model of an adapter, as an absolute path or a hub name. None if the folder is a whole model."""
    config = model / ADAPTER_CONFIG
    if not config.is_file():
        return None
    base = str(json.loads(config.read_text())["base_model_name_or_path"])
    # Within a store the path is relative to the adapter, so that the store can be moved.
    folder = (model / base).resolve()
    return str(folder) if folder.is_dir() else base


def vllm_max_lora_rank(adapter: Path) -> int:
    """Return the smallest rank supported by vLLM that is at least the rank of the adapter."""
    lora_rank = int(json.loads((adapter / ADAPTER_CONFIG).read_text()).get("r", 16))
    return next(rank for rank in (8, 16, 32, 64, 128, 256, 320, 512) if rank >= lora_rank)
