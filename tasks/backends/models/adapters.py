"""What an adapter's folder says of itself: what it is laid over, and how wide it is."""

import json
from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"


def adapter_base_path(model: Path) -> str | None:
    """What an adapter is to be laid over, as its folder says, by a path from itself or by name; None for a whole model."""
    described = model / ADAPTER_CONFIG
    if not described.is_file():
        return None
    named = str(json.loads(described.read_text())["base_model_name_or_path"])
    beside = (model / named).resolve()
    return str(beside) if beside.is_dir() else named


def vllm_max_lora_rank(adapter: Path) -> int:
    """The least of the ranks that vLLM knows which an adapter fits in."""
    asked = int(json.loads((adapter / ADAPTER_CONFIG).read_text()).get("r", 16))
    return next(rank for rank in (8, 16, 32, 64, 128, 256, 320, 512) if rank >= asked)
