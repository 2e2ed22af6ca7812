"""Measure generation against vLLM alone, embedded and as a server, and the gain from prompt planning and selection.

All methods use one small model and the same prompts, seeds and settings, alternating within one run; figures are
medians of ratios. Heirloom is timed from prompts to committed parts, the others from requests to texts. Needs two free
cores.
"""

import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks.figures import Figure, remembered, short
from benchmarks.performance import killed_generation as ten_thousand
from benchmarks.performance import model_reload as new_models
from benchmarks.performance import prompt_delivery as delivery
from benchmarks.performance import sampling_gain as selecting
from benchmarks.performance.generation_setup import (
    RECORDS,
    STORE,
    TOKENS,
    Scene,
    as_requests,
    cpu_of,
    open_backends,
    open_bare,
    open_scene,
    serial,
    untold,
)
from curation.prompts.plan import PromptSettings
from flows.config.recipe import Recipe
from storage.artifacts.artifact import Artifact, read_manifest, read_table
from storage.runs.run import Attempt
from tasks.backends import Prompt, Sampling
from tasks.backends.registry import Backends
from tasks.context import GenerationHistory, StageContext
from tasks.generation.generate import generate
from tasks.orchestration.prefect import without_prefect

_ROUNDS = 3


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
        "new-model": new_models.model_figures,
        "five-generations": new_models.five_figures,
        "two-workers": _worker_figures,
        "delivery": delivery.figures,
        "quota": selecting.quota_figures,
        "steering": selecting.steering_figures,
        "ten-thousand": ten_thousand.figures,
    }
    return [figure for name, count in pieces.items() for figure in remembered(STORE, name, count)]


def _engine_figures() -> list[Figure]:
    embedded = _against(open_scene(), "vllm", "engine")
    engine = embedded.ratio(0)
    rate = statistics.median(1 / cpu for _, cpu in embedded.ours)
    return [
        Figure("throughput, generate / bare LLM.generate", short(engine), "ratio", ">= 0.97", engine >= 0.97),
        Figure(
            "tokens per CPU second, generate / bare LLM.generate, parent process included",
            short(embedded.ratio(1)),
            "ratio",
        ),
        Figure("generate, embedded engine", round(rate), "tokens a CPU second"),
    ]


def _server_figures() -> list[Figure]:
    server = _against(open_scene(), "server", "client", each=4).ratio(0)
    label = f"throughput, generate over a server / bare client, {4 * RECORDS:,} prompts"
    return [Figure(label, short(server), "ratio", ">= 0.95", server >= 0.95)]


def _peer_figures() -> list[Figure]:
    ray = _against(open_scene(), "vllm", "ray").ratio(0)
    return [Figure("throughput, generate / Ray Data with vLLM", short(ray), "ratio", ">= 1", ray >= 1)]


def _worker_figures() -> list[Figure]:
    with without_prefect():
        twice, bare = _two_workers(open_scene()), _two_engines(open_scene())
    return [
        Figure("texts per second, two workers / one worker", short(twice), "ratio", ">= 1.8", twice >= 1.8),
        Figure("texts per second, two bare engines / one bare engine", short(bare), "ratio"),
    ]


def _against(scene: Scene, sampler: str, kind: str, each: float = 1) -> _Rounds:
    """`each`: candidates a record."""
    rounds, model = _Rounds(), scene.models[0]
    with without_prefect(), open_backends() as backends:
        # Both are warm; start-up is not timed.
        _generated(scene, sampler, backends, 0.1)
        log = "".join(path.read_text() for path in backends.logs.glob("server-*.log"))
        where = str(model.folder) if kind != "client" else re.findall(r"answers at (\S+)", log)[-1]
        with open_bare(kind, where) as ask:
            ask(as_requests(model, [Prompt("", place) for place in range(8)]))
            # Ray starts an engine for each of its rounds.
            for _ in range(2 if kind == "ray" else _ROUNDS):
                started, cpu = time.perf_counter(), cpu_of(backends)
                made = _generated(scene, sampler, backends, each)
                seconds, cpu = time.perf_counter() - started, cpu_of(backends) - cpu
                tokens = read_manifest(made.folder)["facts"]["generated_tokens"]
                rows = read_table(made.folder).to_pylist()
                theirs = ask(as_requests(model, [Prompt(row["prompt"], row["seed"]) for row in rows]))
                if theirs["texts"] != [row["text"].removeprefix(row["prompt"]) for row in rows]:
                    raise ValueError(f"{sampler} and the bare {kind} say different things")
                rounds.ours.append((seconds / tokens, cpu / tokens))
                rounds.theirs.append((theirs["seconds"] / tokens, theirs.get("cpu", 0.0) / tokens))
    return rounds


def _generated(scene: Scene, sampler: str, backends: Backends, each: float) -> Artifact:
    attempt = Attempt(scene.run, 1, next(serial))
    sampling = Sampling.model_validate({"sampler": sampler, "max_tokens": TOKENS})
    prompts = PromptSettings(
        template_name="prefix", prompts_per_human_record=each, max_prompts_per_record=max(1, round(each))
    )
    recipe = Recipe(name="bench", dataset="docs", prompts=prompts, generate=sampling)
    ctx = StageContext(attempt=attempt, recipe=recipe, backends=backends)
    return generate(ctx, scene.human, GenerationHistory(), scene.models[0])


def _two_workers(scene: Scene) -> float:
    model, sampling = scene.models[0].folder, Sampling(sampler="vllm", max_tokens=TOKENS)
    prompts = [Prompt("", seed) for seed in range(RECORDS)]

    def timed(backends: Backends) -> float:
        started = time.perf_counter()
        completions = list(backends.sampler(sampling).sample(model, prompts, untold))
        assert len(completions) == len(prompts)
        return time.perf_counter() - started

    ratios = []
    with open_backends(samplers=2) as backends:
        timed(backends)
        for _ in range(_ROUNDS):
            both = timed(backends)
            with backends.pool.lease("vllm_engine", None):
                ratios.append(timed(backends) / both)
    return statistics.median(ratios)


def _two_engines(scene: Scene) -> float:
    model = scene.models[0]
    requests, ratios = as_requests(model, [Prompt("", seed) for seed in range(RECORDS)]), []
    with open_bare("engine", str(model.folder)) as one, open_bare("engine", str(model.folder), "second") as other:
        for _ in range(_ROUNDS + 1):
            started = time.perf_counter()
            with ThreadPoolExecutor(2) as pool:
                halves = [pool.submit(one, requests[::2]), pool.submit(other, requests[1::2])]
            assert sum(len(half.result()["texts"]) for half in halves) == len(requests)
            both = time.perf_counter() - started
            ratios.append(one(requests)["seconds"] / both)
    return statistics.median(ratios[1:])
