"""Published defaults of `[train]`, by what is trained. Explicit settings win over them.

* `scratch-small`: the defaults of `[train]`, tuned here for models of a million weights.
* `pretrain`: Ibrahim et al. 2024, Simple and scalable strategies to continually pre-train (arXiv:2403.08763): AdamW,
  beta2 0.95, weight decay 0.1, a rate of 3e-4 that is warmed up again over 1 % of the steps and decays by a cosine.
* `full-finetune`: `trl.SFTConfig` of TRL 1.16: AdamW, 2e-5, batches of 8, gradient checkpointing; linear decay, 3 %
  warm-up and two epochs as in Tulu 3 (Lambert et al. 2024, arXiv:2411.15124).
* `lora`: Schulman et al. 2025, LoRA Without Regret: adapters on all linear layers, alpha 32, ten times the rate of full
  fine-tuning, constant, small batches.
* `qlora`: Dettmers et al. 2023, QLoRA (arXiv:2305.14314): 4-bit base, rank 64, alpha 16, 2e-4 constant, batches of 16,
  gradients clipped at 0.3.

DPO takes far lower rates: `trl.DPOConfig` has 1e-6, and Tulu 3 a warm-up of 10 % and one epoch. Adapters take ten times
that rate.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

Preset = Literal["scratch-small", "pretrain", "full-finetune", "lora", "qlora"]
PRESETS: tuple[str, ...] = get_args(Preset)
ADAPTER_PRESETS = ("lora", "qlora")

_FINETUNING: dict[str, Any] = {
    "optimizer": "adamw",
    "adam_beta2": 0.999,
    "weight_decay": 0.0,
    "packing": False,
    # The model's.
    "context_length": 0,
    "gradient_checkpointing": True,
    "num_epochs": 2.0,
}
_VALUES: dict[str, dict[str, Any]] = {
    "scratch-small": {},
    "pretrain": {
        "optimizer": "adamw",
        "learning_rate": 3e-4,
        "lr_scheduler": "cosine",
        "warmup_ratio": 0.01,
        "weight_decay": 0.1,
        "batch_size": 32,
        "context_length": 2048,
        "gradient_checkpointing": True,
        "num_epochs": 1.0,
    },
    "full-finetune": {
        **_FINETUNING,
        "learning_rate": 2e-5,
        "lr_scheduler": "linear",
        "warmup_ratio": 0.03,
        "batch_size": 8,
    },
    "lora": {
        **_FINETUNING,
        "learning_rate": 2e-4,
        "lr_scheduler": "constant",
        "batch_size": 8,
        "lora_rank": 32,
        "lora_alpha": 32,
    },
    "qlora": {
        **_FINETUNING,
        "learning_rate": 2e-4,
        "lr_scheduler": "constant",
        "batch_size": 16,
        "lora_rank": 64,
        "lora_alpha": 16,
        "max_grad_norm": 0.3,
        "save_adapter_only": True,
    },
}
_DPO: dict[str, Any] = {"lr_scheduler": "linear", "warmup_ratio": 0.1, "num_epochs": 1.0}
_DPO_RATES = {"full-finetune": 1e-6, "lora": 1e-5, "qlora": 1e-5}
_LENGTHS = ("max_steps", "generation_0_max_steps", "num_epochs", "max_tokens")
"""Settings of the length of a training. Any of them replaces the number of epochs of a preset."""


def choose_preset(explicit: Mapping[str, Any]) -> str:
    """Return the preset that explicit settings name or imply: fine-tuning if they name a base model to start from."""
    if "preset" in explicit:
        return str(explicit["preset"])
    if not explicit.get("base_model") or explicit.get("init_from", "scratch") == "scratch":
        return "scratch-small"
    return "lora" if explicit.get("lora_rank") else "full-finetune"


def preset_values(preset: str, explicit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a preset for the settings that are not explicit; none for an unknown preset."""
    values = dict(_VALUES.get(preset, {}))
    if explicit.get("objective") == "dpo" and preset in _DPO_RATES:
        values |= {**_DPO, "learning_rate": _DPO_RATES[preset]}
    if explicit.get("optimizer") == "muon":
        # The rates and decays of a preset are those of AdamW.
        values = {name: value for name, value in values.items() if name not in ("learning_rate", "weight_decay")}
    if any(name in explicit for name in _LENGTHS):
        values.pop("num_epochs", None)
    return {name: value for name, value in values.items() if name not in explicit}
