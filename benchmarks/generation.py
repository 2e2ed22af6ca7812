"""What generation costs beside vLLM alone, embedded and as a server; what a new model costs a living engine; two workers.

All on one small model and the same prompts, seeds and settings, in turn within one run, and the median of the ratios. A round is
prompts in to parts committed for us, and requests in to texts out for what we are compared with. Wants two free cores.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.bare import AT_ONCE, KV_CACHE_MIB
from benchmarks.figures import WORK, Figure, short
from curation.mixing import MixSettings
from curation.prompts import PromptSettings
from curation.splitting import IngestSettings
from storage.artifact import Artifact, read_manifest, read_table
from storage.run import Attempt, Run
from storage.sources import DOCSTRINGS
from tasks.backends import Prompt, Resources, Sampling, TransformerTraining
from tasks.backends.pool import Backends
from tasks.backends.worker import Worker
from tasks.coat import without_coat
from tasks.generate import generate
from tasks.ingest import ingest, pinned_human
from tasks.mix import mix
from tasks.train import train

_STORE = WORK / "generation"
_ROUNDS = 3
_TOKENS = 64
_RECORDS = 1024
_SHAPE = TransformerTraining(hidden=128, layers=4, heads=2, context=256, human_only_steps=60, steps=60, batch=4)
_RESOURCES = Resources(kv_cache_mib=KV_CACHE_MIB, max_num_seqs=AT_ONCE)
_serial = count(int(time.time()))


@dataclass(frozen=True)
class _Scene:
    """A run with two models of one shape, and the human text that prompts are taken from."""

    run: Run
    reserve: Artifact
    models: tuple[Artifact, Artifact]


@dataclass
class _Rounds:
    """Seconds and CPU seconds a token, ours and theirs, of rounds in turn."""

    ours: list[tuple[float, float]] = field(default_factory=list)
    theirs: list[tuple[float, float]] = field(default_factory=list)

    def ratio(self, which: int) -> float:
        """Their cost over ours; 1 means that we add nothing."""
        return statistics.median(
            theirs[which] / ours[which] for ours, theirs in zip(self.ours, self.theirs, strict=True)
        )


def measure() -> list[Figure]:
    """Run everything, a few minutes in all."""
    with without_coat():
        scene = _scene()
        embedded, served = _against(scene, "vllm", "engine"), _against(scene, "server", "client")
        living, difference = _new_model(scene)
        twice = _two_workers(scene)
    engine, server = embedded.ratio(0), served.ratio(0)
    rate = statistics.median(1 / cpu for _, cpu in embedded.ours)
    return [
        Figure(
            "generate beside a bare LLM.generate: tokens a second", short(engine), "ratio", ">= 0.97", engine >= 0.97
        ),
        Figure("the same: tokens a CPU second, the parent's counted", short(embedded.ratio(1)), "ratio"),
        Figure("generate, embedded engine", round(rate), "tokens a CPU second"),
        Figure("generate over a server beside a bare client", short(server), "ratio", ">= 0.95", server >= 0.95),
        Figure(
            "a new model in a living engine over a cold start: CPU", short(living), "ratio", "<= 0.25", living <= 0.25
        ),
        Figure(
            "largest difference to transformers", short(difference), "nats a token", "<= 0.0001", difference <= 1e-4
        ),
        Figure("two workers beside one: texts a second", short(twice), "ratio", ">= 1.8", twice >= 1.8),
    ]


def _scene() -> _Scene:
    settings = IngestSettings(
        passage_characters=(80, 360), split_by="source", reserve_records=_RECORDS, heldout_records=100
    )
    ingest(_STORE, "docs", [DOCSTRINGS], settings)
    run = Run(_STORE, "bench")
    models: list[Artifact] = []
    run.begin({}, set(), {})
    with _backends() as backends:
        for number in (1, 2):
            attempt = Attempt(run, 0, number)
            human = pinned_human(attempt, "docs")
            corpus = mix(attempt, human["reserve"], [], MixSettings(), 0)
            models.append(
                train(attempt, corpus, human["heldout"], models[0] if models else None, _SHAPE, number, backends)
            )
    return _Scene(run, human["reserve"], (models[0], models[1]))


@contextmanager
def _backends(samplers: int = 1) -> Iterator[Backends]:
    resources = _RESOURCES.model_copy(update={"samplers": samplers})
    backends = Backends(resources, _STORE / "logs" / str(next(_serial)))
    try:
        yield backends
    finally:
        backends.close()


def _against(scene: _Scene, sampler: str, kind: str) -> _Rounds:
    rounds, model = _Rounds(), scene.models[0]
    with _backends() as backends:
        # Both are warm, and nobody's start is timed.
        _generated(scene, sampler, backends, "warm")
        log = "".join(path.read_text() for path in backends.logs.glob("server-*.log"))
        where = str(model.folder) if kind == "engine" else re.findall(r"answers at (\S+)", log)[-1]
        with _bare(kind, where) as ask:
            ask(_requests(model, [Prompt("", place) for place in range(8)]))
            for _ in range(_ROUNDS):
                started, cpu = time.perf_counter(), _cpu(backends)
                made = _generated(scene, sampler, backends, "round")
                seconds, cpu = time.perf_counter() - started, _cpu(backends) - cpu
                tokens = read_manifest(made.folder)["facts"]["generated_tokens"]
                rows = read_table(made.folder).to_pylist()
                theirs = ask(_requests(model, [Prompt(row["prompt"], row["seed"]) for row in rows]))
                if theirs["texts"] != [row["text"].removeprefix(row["prompt"]) for row in rows]:
                    raise ValueError(f"{sampler} and the bare {kind} say different things")
                rounds.ours.append((seconds / tokens, cpu / tokens))
                rounds.theirs.append((theirs["seconds"] / tokens, theirs["cpu"] / tokens))
    return rounds


def _generated(scene: _Scene, sampler: str, backends: Backends, seed: str) -> Artifact:
    attempt = Attempt(scene.run, 1, next(_serial))
    sampling = Sampling.model_validate({"sampler": sampler, "max_tokens": _TOKENS})
    prompts = PromptSettings(program="opening", candidates_per_human_record=0.1 if seed == "warm" else 1)
    return generate(attempt, scene.models[0], scene.reserve, prompts, sampling, 0, backends)


def _requests(model: Artifact, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    from transformers import PreTrainedTokenizerFast

    speller = PreTrainedTokenizerFast.from_pretrained(model.folder)
    asked = {"model": str(model.folder), "max_tokens": _TOKENS, "temperature": 1.0, "top_p": 1.0, "logprobs": 0}
    return [
        {
            **asked,
            "seed": one.seed,
            "prompt": [speller.bos_token_id, *speller(one.text, add_special_tokens=False)["input_ids"]],
        }
        for one in prompts
    ]


@contextmanager
def _bare(kind: str, where: str) -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare", kind, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    read, write, file = process.stdout, process.stdin, _STORE / f"{kind}.json"

    def ask(requests: list[dict[str, Any]]) -> dict[str, Any]:
        file.write_text(json.dumps(requests))
        write.write(f"{file}\n")
        write.flush()
        return json.loads(next(line for line in read if line.startswith("{")))

    try:
        next(line for line in read if line == "ready\n")
        yield ask
    finally:
        process.kill()
        process.wait()


def _cpu(backends: Backends) -> float:
    """CPU seconds of this process and of the workers so far."""
    return time.process_time() + sum(_spent(worker) for worker in backends._workers)  # noqa: SLF001


def _spent(worker: Worker) -> float:
    fields = Path(f"/proc/{worker._process.pid}/stat").read_text().rsplit(")", 1)[1].split()  # noqa: SLF001
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _new_model(scene: _Scene) -> tuple[float, float]:
    """CPU of the first word of a new model in a living engine over that in a new process; the difference to transformers."""
    first, second = (model.folder for model in scene.models)
    one, sampling = [Prompt("The", 0)], Sampling(sampler="vllm", max_tokens=4)
    openings = [
        " ".join(text.split()[:5]) for text in read_table(scene.reserve.folder, ["text"])["text"].to_pylist()[:32]
    ]
    prompts, likeliest = [Prompt(text, 0) for text in openings], {"top_k": 1, "max_tokens": 24}
    cold, living, differences = [], [], []
    for _ in range(2):
        with _backends() as backends, backends.lease("vllm_engine", first) as worker:
            list(worker.stream("sample", _untold, sampling, _RESOURCES, first, one))
            cold.append(_spent(worker))
            for model in (second, first, second):
                before = _spent(worker)
                list(worker.stream("sample", _untold, sampling, _RESOURCES, model, one))
                living.append(_spent(worker) - before)
            asked = Sampling.model_validate({"sampler": "vllm", **likeliest})
            batches = worker.stream("sample", _untold, asked, _RESOURCES, second, prompts)
            fast = [text for batch in batches for text in batch]
    with _backends() as backends:
        asked = Sampling.model_validate({"sampler": "transformers", **likeliest})
        slow = backends.sampler(asked).sample(second, prompts, _untold)
        for said, reference in zip(fast, slow, strict=True):
            if said.text != reference.text or said.log_probability is None or reference.log_probability is None:
                raise ValueError(f"the likeliest text is {said.text!r} by vLLM and {reference.text!r} by transformers")
            differences.append(abs(said.log_probability - reference.log_probability) / said.completion_tokens)
    return statistics.median(living) / statistics.median(cold), max(differences)


def _two_workers(scene: _Scene) -> float:
    model, sampling = scene.models[0].folder, Sampling(sampler="vllm", max_tokens=_TOKENS)
    prompts = [Prompt("", seed) for seed in range(_RECORDS)]

    def timed(backends: Backends) -> float:
        started = time.perf_counter()
        said = list(backends.sampler(sampling).sample(model, prompts, _untold))
        assert len(said) == len(prompts)
        return time.perf_counter() - started

    ratios = []
    with _backends(samplers=2) as backends:
        timed(backends)
        for _ in range(_ROUNDS):
            both = timed(backends)
            with backends.lease("vllm_engine", None):
                ratios.append(timed(backends) / both)
    return statistics.median(ratios)


def _untold(*_: int) -> None:
    pass
