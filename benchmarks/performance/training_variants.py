"""Run every way to train as one run of one generation, on a tiny model sampled with vLLM."""

import json
import math
import random
from pathlib import Path
from typing import Any

from safetensors import safe_open

from curation.splitting import IngestSettings
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.artifacts.artifact import read_manifest, read_table
from storage.readers.discovery import PYTHON_DOCS
from tasks.backends import Resources
from tasks.ingestion.ingest import ingest

_TINY = {
    "backend": "transformer",
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "context_length": 128,
    "vocab_size": 400,
    "batch_size": 4,
    "max_steps": 30,
    "generation_0_max_steps": 30,
    "base_max_steps": 60,
}
_ADAMW = {"optimizer": "adamw", "learning_rate": 0.002}
_DPO = {"objective": "dpo", "init_from": "base", "optimizer": "adamw", "learning_rate": 0.0005}

VARIANTS: dict[str, dict[str, Any]] = {
    "from scratch": {},
    "from base": {"init_from": "base"},
    "from previous": {"init_from": "previous"},
    "LoRA, merged": {"init_from": "base", "lora_rank": 4, **_ADAMW},
    "LoRA, as adapter": {"init_from": "base", "lora_rank": 4, "save_adapter_only": True, **_ADAMW},
    "SFT": {"objective": "sft", "init_from": "base"},
    "DPO, people's pairs": _DPO,
    "DPO, best against worst of k": {**_DPO, "preference_source": "best-of-k"},
}


def live(name: str, folder: Path) -> dict[str, Any]:
    """Run generation 0 and 1 of a variant in a store of its own below `folder`; the samples of its last model."""
    chat = VARIANTS[name].get("objective") == "sft" or (
        VARIANTS[name].get("objective") == "dpo" and "preference_source" not in VARIANTS[name]
    )
    slug = "".join(letter if letter.isalnum() else "-" for letter in name)
    store = folder / "store"
    human = "chat" if chat else "letters"
    folder.mkdir(parents=True, exist_ok=True)
    if not (store / "human" / human).exists():
        file = folder / f"{human}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in _rows(chat)))
        ingest(store, human, [str(file)], IngestSettings(text_column="messages" if chat else "text"))
    asked = {"template_name": "prefix", "prefix_words": 8}
    if VARIANTS[name].get("preference_source"):
        asked |= {"prefix_words": 4, "max_prompts_per_record": 3, "prompts_per_human_record": 2}
    recipe = Recipe.model_validate(
        {
            "name": slug,
            "dataset": human,
            "num_generations": 1,
            "prompts": asked,
            "generate": {"sampler": "vllm", "max_tokens": 40},
            "curate": {"encoder": "hashing", "filters": ["exact"]},
            "evaluate": {"num_samples": 40},
            "train": {**_TINY, **VARIANTS[name]},
        }
    )
    evolve(recipe, Site(store=store, resources=Resources(kv_cache_mib=64, max_num_seqs=64)))
    last = store / "runs" / slug / "generation=1" / "attempt=1"
    texts = read_table(last / "eval_samples")["text"].to_pylist()
    manifest = read_manifest(last / "model")
    num_texts = sum(bool(text.strip()) for text in texts)
    return {
        "num_texts": num_texts,
        "sampler": recipe.generate.sampler,
        "files": sorted(manifest["files"]),
        "facts": manifest["facts"],
    }


def dry(folder: Path) -> dict[str, Any]:
    """The shipped recipe for a GPU, on this CPU, cut to a hundredth of an epoch.

    Parameters and samples of its last model.
    """
    store = folder / "dry-store"
    if not (store / "human" / "corpus").exists():
        asked = IngestSettings(
            passage_length_chars=(80, 360), split_by="source", max_train_records=2_000, max_heldout_records=20
        )
        ingest(store, "corpus", [PYTHON_DOCS], asked)
    short = (
        "num_generations=1",
        "prompts.prompts_per_human_record=0.02",
        "generate.max_tokens=24",
        "evaluate.num_samples=20",
    )
    recipe = load_recipe("hundred-million", [*short, "train.batch_size=1", "train.num_epochs=0.01"])
    evolve(recipe, Site(store=store, resources=Resources(kv_cache_mib=256, max_num_seqs=16)))
    last = store / "runs" / recipe.name / "generation=1" / "attempt=1"
    texts = read_table(last / "eval_samples")["text"].to_pylist()
    with safe_open(last / "model" / "model.safetensors", "pt") as weights:
        held = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118  (no mapping)
    return {"num_texts": sum(bool(text.strip()) for text in texts), "weights": held}


def _rows(chat: bool) -> list[dict[str, Any]]:
    rng = random.Random(3)  # noqa: S311  (a corpus, not a secret)
    nouns, verbs = (
        ("river", "garden", "letter", "winter", "village", "harbour"),
        ("follows", "forgets", "carries", "repairs"),
    )

    def sentence() -> str:
        return f"The {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)} in {rng.randint(1200, 1999)}."

    if not chat:
        return [{"text": " ".join(sentence() for _ in range(rng.randint(2, 4)))} for _ in range(160)]
    return [
        {
            "messages": [
                {"role": "user", "content": f"Go on: {sentence()}"},
                {"role": "assistant", "content": f"{sentence()} {sentence()}"},
                {"role": "rejected", "content": "I do not know."},
            ]
        }
        for _ in range(160)
    ]
