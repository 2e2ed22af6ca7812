"""Set up what generation is measured on: a run with five small models, backends, and bare engines and clients."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.figures import WORK
from benchmarks.performance.bare_vllm import AT_ONCE, KV_CACHE_MIB
from benchmarks.support.generations import partial_generation
from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from storage.artifacts.artifact import Artifact
from storage.readers.discovery import PYTHON_DOCS
from storage.runs.run import Attempt, Run
from tasks.backends import Prompt, Resources, TransformerTraining
from tasks.backends.registry import Backends
from tasks.backends.workers.process import Worker
from tasks.context import GenerationHistory, HumanData, StageContext
from tasks.ingestion.ingest import ingest, load_pinned_human
from tasks.mix import mix
from tasks.orchestration.prefect import without_prefect
from tasks.training.train import train

STORE = WORK / "generation"
TOKENS = 64
RECORDS = 1024
_SHAPE = TransformerTraining(
    hidden_size=128,
    num_hidden_layers=4,
    num_attention_heads=2,
    context_length=256,
    generation_0_max_steps=60,
    max_steps=60,
    batch_size=4,
)
RESOURCES = Resources(kv_cache_mib=KV_CACHE_MIB, max_num_seqs=AT_ONCE)
serial = count(int(time.time()))


@dataclass(frozen=True)
class Scene:
    """A run with five models of one shape, and the human text that prompts are taken from."""

    run: Run
    human: HumanData
    models: tuple[Artifact, ...]


@cache
def open_scene() -> Scene:
    """The scene, made at the first call and found finished afterwards."""
    with without_prefect():
        return _made_scene()


def _made_scene() -> Scene:
    settings = IngestSettings(
        passage_length_chars=(80, 360), split_by="source", max_train_records=RECORDS, max_heldout_records=100
    )
    ingest(STORE, "docs", [PYTHON_DOCS], settings)
    run = Run(STORE, "bench")
    models: list[Artifact] = []
    run.initialize({}, set(), {})
    with open_backends() as backends:
        for number in range(1, 6):
            attempt = Attempt(run, 0, number)
            human = load_pinned_human(attempt, "docs")
            recipe = Recipe(name="bench", dataset="docs", train=_SHAPE, seed=number)
            ctx = StageContext(attempt=attempt, recipe=recipe, backends=backends)
            # Every model is trained as one of generation 0, with the tokenizer of the first.
            corpus = mix(ctx, human, GenerationHistory())
            history = GenerationHistory((partial_generation(Attempt(run, 0), models[0], None),) if models else ())
            models.append(train(ctx, human, history, corpus))
    return Scene(run, human, tuple(models))


@contextmanager
def open_backends(samplers: int = 1) -> Iterator[Backends]:
    """Worker processes of their own, ended at the end."""
    resources = RESOURCES.model_copy(update={"num_sample_workers": samplers})
    backends = Backends(resources, STORE / "logs" / str(next(serial)))
    try:
        yield backends
    finally:
        backends.close()


def as_requests(model: Artifact, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """The same questions as a bare engine or client takes them."""
    from transformers import PreTrainedTokenizerFast

    speller = PreTrainedTokenizerFast.from_pretrained(model.folder)
    asked = {"model": str(model.folder), "max_tokens": TOKENS, "temperature": 1.0, "top_p": 1.0, "logprobs": 0}
    return [
        {
            **asked,
            "seed": one.seed,
            "prompt": [speller.bos_token_id, *speller(one.text, add_special_tokens=False)["input_ids"]],
        }
        for one in prompts
    ]


@contextmanager
def open_bare(kind: str, where: str, name: str = "") -> Iterator[Any]:
    """Who answers requests without us, in a process of its own: an engine, a client, or Ray."""
    module = "benchmarks.performance.ray_data" if kind == "ray" else "benchmarks.performance.bare_vllm"
    process = subprocess.Popen(
        [sys.executable, "-m", module, kind, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    read, write, file = process.stdout, process.stdin, STORE / f"asked-{kind}{name}.json"

    def ask(requests: list[dict[str, Any]]) -> dict[str, Any]:
        file.write_text(json.dumps(requests))
        write.write(f"{file}\n")
        write.flush()
        return json.loads(next(line for line in read if line.startswith("{")))

    try:
        next(line for line in read if line == "ready\n")
        yield ask
    finally:
        # Ray ends what it started when its input ends; the others hold nothing.
        write.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_of(backends: Backends) -> float:
    """CPU seconds of this process and of the workers so far."""
    return time.process_time() + sum(spent(worker) for worker in backends.pool.workers)


def spent(worker: Worker) -> float:
    """CPU seconds of one worker so far."""
    fields = Path(f"/proc/{worker._process.pid}/stat").read_text().rsplit(")", 1)[1].split()  # noqa: SLF001
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def untold(*_: int) -> None:
    """Ignore progress."""
