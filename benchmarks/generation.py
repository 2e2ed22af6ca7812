"""What generation costs beside vLLM alone, embedded and as a server, and what asking with a purpose gains.

Costs are taken on one small model and the same prompts, seeds and settings, in turn within one run, as the median of the ratios. A
round is prompts in to parts committed for us, and requests in to texts out for what we are compared with. Wants two free cores.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import delivery, selecting, ten_thousand
from benchmarks.bare import AT_ONCE, KV_CACHE_MIB
from benchmarks.figures import WORK, Figure, remembered, short
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
    """A run with five models of one shape, and the human text that prompts are taken from."""

    run: Run
    reserve: Artifact
    models: tuple[Artifact, ...]


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
    """Run everything, some twenty minutes in all; what was measured before an interruption is not measured again."""
    pieces = {
        "engine": _engine_figures,
        "server": _server_figures,
        "peer": _peer_figures,
        "new-model": _model_figures,
        "five-generations": _five_figures,
        "two-workers": _worker_figures,
        "delivery": delivery.figures,
        "quota": selecting.quota_figures,
        "steering": selecting.steering_figures,
        "ten-thousand": ten_thousand.figures,
    }
    return [figure for name, count in pieces.items() for figure in remembered(_STORE, name, count)]


def _engine_figures() -> list[Figure]:
    embedded = _against(_scene(), "vllm", "engine")
    engine = embedded.ratio(0)
    rate = statistics.median(1 / cpu for _, cpu in embedded.ours)
    return [
        Figure(
            "generate beside a bare LLM.generate: tokens a second", short(engine), "ratio", ">= 0.97", engine >= 0.97
        ),
        Figure("the same: tokens a CPU second, the parent's counted", short(embedded.ratio(1)), "ratio"),
        Figure("generate, embedded engine", round(rate), "tokens a CPU second"),
    ]


def _server_figures() -> list[Figure]:
    server = _against(_scene(), "server", "client", each=4).ratio(0)
    told = f"generate over a server beside a bare client, {4 * _RECORDS:,} prompts"
    return [Figure(told, short(server), "ratio", ">= 0.95", server >= 0.95)]


def _peer_figures() -> list[Figure]:
    ray = _against(_scene(), "vllm", "ray").ratio(0)
    return [Figure("generate beside Ray Data with vLLM: tokens a second", short(ray), "ratio", ">= 1", ray >= 1)]


def _model_figures() -> list[Figure]:
    found = []
    with without_coat():
        folders = [model.folder for model in _scene().models[:2]]
        untied = [_untied(folder) for folder in folders]
        for head, (first, second) in {"tied": folders, "untied": untied}.items():
            living, difference = _new_model(first, second)
            told = f"{head} head: a new model in a living engine over a cold start: CPU"
            found.append(Figure(told, short(living), "ratio", "<= 0.25", living <= 0.25))
            told = f"{head} head: largest difference to transformers"
            found.append(Figure(told, short(difference), "nats a token", "<= 0.0001", difference <= 1e-4))
    return found


def _five_figures() -> list[Figure]:
    """The texts of five models in a living engine, and of each in a process of its own."""
    with without_coat():
        models = [model.folder for model in _scene().models]
    sampling, prompts = Sampling(sampler="vllm", max_tokens=_TOKENS), [Prompt("", seed) for seed in range(256)]
    with _backends() as living:
        together = [list(living.sampler(sampling).sample(model, prompts, _untold)) for model in models]
    unlike = 0
    for model, said in zip(models, together, strict=True):
        with _backends() as cold:
            alone = cold.sampler(sampling).sample(model, prompts, _untold)
            unlike += sum(one != other for one, other in zip(said, alone, strict=True))
    told = f"five generations in one engine: texts unlike those of cold starts, of {len(models) * len(prompts)}"
    return [Figure(told, unlike, "", "0", unlike == 0)]


def _worker_figures() -> list[Figure]:
    with without_coat():
        twice, bare = _two_workers(_scene()), _two_engines(_scene())
    return [
        Figure("two workers beside one: texts a second", short(twice), "ratio", ">= 1.8", twice >= 1.8),
        Figure("the same of two bare engines, what these cores allow", short(bare), "ratio"),
    ]


@cache
def _scene() -> _Scene:
    with without_coat():
        return _made_scene()


def _made_scene() -> _Scene:
    settings = IngestSettings(
        passage_characters=(80, 360), split_by="source", reserve_records=_RECORDS, heldout_records=100
    )
    ingest(_STORE, "docs", [DOCSTRINGS], settings)
    run = Run(_STORE, "bench")
    models: list[Artifact] = []
    run.begin({}, set(), {})
    with _backends() as backends:
        for number in range(1, 6):
            attempt = Attempt(run, 0, number)
            human = pinned_human(attempt, "docs")
            corpus = mix(attempt, human["reserve"], [], MixSettings(), 0)
            models.append(
                train(attempt, corpus, human["heldout"], models[0] if models else None, _SHAPE, number, backends)
            )
    return _Scene(run, human["reserve"], tuple(models))


@contextmanager
def _backends(samplers: int = 1) -> Iterator[Backends]:
    resources = _RESOURCES.model_copy(update={"samplers": samplers})
    backends = Backends(resources, _STORE / "logs" / str(next(_serial)))
    try:
        yield backends
    finally:
        backends.close()


def _against(scene: _Scene, sampler: str, kind: str, each: float = 1) -> _Rounds:
    """`each`: candidates a record."""
    rounds, model = _Rounds(), scene.models[0]
    with without_coat(), _backends() as backends:
        # Both are warm, and nobody's start is timed.
        _generated(scene, sampler, backends, 0.1)
        log = "".join(path.read_text() for path in backends.logs.glob("server-*.log"))
        where = str(model.folder) if kind != "client" else re.findall(r"answers at (\S+)", log)[-1]
        with _bare(kind, where) as ask:
            ask(_requests(model, [Prompt("", place) for place in range(8)]))
            # Ray starts an engine for each of its rounds.
            for _ in range(2 if kind == "ray" else _ROUNDS):
                started, cpu = time.perf_counter(), _cpu(backends)
                made = _generated(scene, sampler, backends, each)
                seconds, cpu = time.perf_counter() - started, _cpu(backends) - cpu
                tokens = read_manifest(made.folder)["facts"]["generated_tokens"]
                rows = read_table(made.folder).to_pylist()
                theirs = ask(_requests(model, [Prompt(row["prompt"], row["seed"]) for row in rows]))
                if theirs["texts"] != [row["text"].removeprefix(row["prompt"]) for row in rows]:
                    raise ValueError(f"{sampler} and the bare {kind} say different things")
                rounds.ours.append((seconds / tokens, cpu / tokens))
                rounds.theirs.append((theirs["seconds"] / tokens, theirs.get("cpu", 0.0) / tokens))
    return rounds


def _generated(scene: _Scene, sampler: str, backends: Backends, each: float) -> Artifact:
    attempt = Attempt(scene.run, 1, next(_serial))
    sampling = Sampling.model_validate({"sampler": sampler, "max_tokens": _TOKENS})
    prompts = PromptSettings(program="opening", candidates_per_human_record=each, rounds=max(1, round(each)))
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
def _bare(kind: str, where: str, name: str = "") -> Iterator[Any]:
    module = "benchmarks.peers" if kind == "ray" else "benchmarks.bare"
    process = subprocess.Popen(
        [sys.executable, "-m", module, kind, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    read, write, file = process.stdout, process.stdin, _STORE / f"asked-{kind}{name}.json"

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


def _cpu(backends: Backends) -> float:
    """CPU seconds of this process and of the workers so far."""
    return time.process_time() + sum(_spent(worker) for worker in backends._workers)  # noqa: SLF001


def _spent(worker: Worker) -> float:
    fields = Path(f"/proc/{worker._process.pid}/stat").read_text().rsplit(")", 1)[1].split()  # noqa: SLF001
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _untied(folder: Path) -> Path:
    """The model with an output head of its own, and its probe by transformers."""
    import torch
    from transformers import LlamaForCausalLM

    target = _STORE / "untied" / folder.parent.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    network = LlamaForCausalLM.from_pretrained(folder)
    network.config.tie_word_embeddings = False
    torch.manual_seed(0)
    head = network.lm_head.weight.detach()
    network.lm_head.weight = torch.nn.Parameter(head + 0.05 * head.std() * torch.randn_like(head))
    network.save_pretrained(target)
    ids = json.loads((folder / "probe.json").read_text())["token_ids"]
    with torch.inference_mode():
        logs = network(input_ids=torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
    total = float(logs.gather(1, torch.tensor(ids[1:])[:, None]).sum())
    (target / "probe.json").write_text(json.dumps({"token_ids": ids, "log_probability": total}))
    return target


def _new_model(first: Path, second: Path) -> tuple[float, float]:
    """CPU of the first word of a new model in a living engine over that in a new process; the difference to transformers."""
    one, sampling = [Prompt("The", 0)], Sampling(sampler="vllm", max_tokens=4)
    openings = [
        " ".join(text.split()[:5]) for text in read_table(_scene().reserve.folder, ["text"])["text"].to_pylist()[:32]
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


def _two_engines(scene: _Scene) -> float:
    model = scene.models[0]
    requests, ratios = _requests(model, [Prompt("", seed) for seed in range(_RECORDS)]), []
    with _bare("engine", str(model.folder)) as one, _bare("engine", str(model.folder), "second") as other:
        for _ in range(_ROUNDS + 1):
            started = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                halves = [pool.submit(one, requests[::2]), pool.submit(other, requests[1::2])]
            assert sum(len(half.result()["texts"]) for half in halves) == len(requests)
            both = time.perf_counter() - started
            ratios.append(one(requests)["seconds"] / both)
    return statistics.median(ratios[1:])


def _untold(*_: int) -> None:
    pass
