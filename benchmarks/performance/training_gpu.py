"""Measure one training and one sampling round on one GPU: speed and memory of a model of 98 M parameters.

    python -m benchmarks.performance.training_gpu --out result.json

A Llama is trained from scratch in bfloat16 on the Python sources of the machine, by the code that a run uses
(`tasks/backends/transformer.py`), then sampled with transformers, one prompt at a time, as the reference sampler does.
Needs torch, transformers, accelerate and pydantic; no store and no network. `--tiny` runs on any CPU.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tasks.backends import Prompt, Resources, Sampling, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.transformer import sample, score, train

_TEAM = TransformerTraining(
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    context_length=1024,
    vocab_size=16384,
    batch_size=32,
    generation_0_max_steps=300,
    lr_scheduler="cosine",
    weight_decay=0.1,
)
_TINY = TransformerTraining(
    hidden_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    context_length=64,
    vocab_size=400,
    batch_size=4,
    generation_0_max_steps=8,
)
_SAMPLING = Sampling(sampler="transformers", max_tokens=128)


def measure(settings: TransformerTraining, text_bytes: int, prompts: int) -> dict[str, Any]:
    """Train, score and sample once."""
    texts, heldout = _sources(text_bytes)
    card = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        resources = Resources(checkpoint_interval_s=1e6)
        corpus = TrainingCorpus(texts, [])
        training = train(
            TrainJob(settings=settings, corpus=corpus, folder=folder, seed=0, resources=resources), _ignore_progress
        )
        trained, training_peak = time.monotonic() - started, _peak()
        scores = score(folder, heldout, (1.0,), _ignore_progress)
        asked = [Prompt("def ", seed) for seed in range(prompts)]
        started = time.monotonic()
        completions = [one for batch in sample(_SAMPLING, resources, folder, asked, _ignore_progress) for one in batch]
        sampling_seconds = time.monotonic() - started
        weights = (folder / "model.safetensors").stat().st_size
    speeds = [point.tokens_per_second for point in training.log[1:]]
    return {
        "device": torch.cuda.get_device_name() if card else platform.processor() or "cpu",
        "versions": {one: version(one) for one in ("torch", "transformers", "accelerate")},
        "parameters": weights // 4,
        "steps": training.steps,
        "tokens": training.tokens,
        "training_seconds_with_vocabulary_and_probe": round(trained, 1),
        "tokens_per_second_median": round(statistics.median(speeds)),
        "training_peak_gib": training_peak,
        "loss_first_and_last": [training.log[0].loss, training.log[-1].loss],
        "heldout_nats_per_token": sum(one.nll[0] for one in scores) / sum(one.tokens for one in scores),
        "sampled_tokens_per_second": round(sum(one.completion_tokens for one in completions) / sampling_seconds, 1),
        "peak_gib": _peak(),
        "sample": completions[0].text[:200],
        "log": [point._asdict() for point in training.log],
        "settings": settings.model_dump(mode="json"),
    }


def _sources(most: int) -> tuple[list[str], list[str]]:
    """Python files of the standard library, in order of their names; each fiftieth is held out."""
    root, found, size = Path(os.__file__).parent, list[str](), 0
    for path in sorted(root.rglob("*.py")):
        if size > most:
            break
        text = path.read_text(errors="ignore")
        if 500 < len(text) < 200_000:
            found.append(text)
            size += len(text)
    held = found[::50][:64]
    return [text for text in found if text not in set(held)], held


def _peak() -> float | None:
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if torch.cuda.is_available() else None


def _ignore_progress(done: int, of: int) -> None:
    if done % max(1, of // 10) == 0:
        print(f"{done} of {of}", flush=True)


def main() -> None:
    """Measure, and print or write what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance.training_gpu", description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a few steps of a tiny model, to try the script")
    asked = parser.parse_args()
    found = measure(*(_TINY, 200_000, 4) if asked.tiny else (_TEAM, 40_000_000, 16))
    written = json.dumps(found, indent=1)
    print(written)
    if asked.out:
        asked.out.write_text(written + "\n")


if __name__ == "__main__":
    main()
