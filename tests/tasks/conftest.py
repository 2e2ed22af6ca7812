"""One set of worker processes for all tests of tasks, a generation 0 to build on, and candidates by hand."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

from flows.config.site import Site
from storage.artifacts.artifact import Artifact
from storage.artifacts.ids import synthetic_id, text_hash
from storage.artifacts.schemas import CANDIDATES, DECISIONS, SYNTHETIC
from storage.runs.run import Attempt, Run
from tasks.backends import (
    Completion,
    Prompt,
    Resources,
    Sampling,
    TrainingCorpus,
    TrainingResult,
    TrainJob,
    TransformerTraining,
)
from tasks.backends.registry import Backends, open_backends
from tasks.context import CuratedCandidates, Generation, GenerationHistory, HumanData, StageContext
from tasks.ingestion.ingest import load_pinned_human
from tasks.mix import mix
from tasks.training.train import train
from tests.conftest import TINY, human_texts
from tests.support.paths import ROOT
from tests.support.waiting import until


@pytest.fixture(scope="session")
def resources() -> Resources:
    """Little memory, one thread, one process of each kind."""
    return Resources(kv_cache_mib=16, max_num_seqs=64)


@pytest.fixture(scope="session")
def backends(resources: Resources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """Worker processes, started when first needed and shared by all tests here."""
    with open_backends(resources, tmp_path_factory.mktemp("logs")) as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path, resources: Resources) -> Site:
    """A store of its own, on the shared processes."""
    return Site(store=tmp_path / "store", resources=resources)


@dataclass(frozen=True)
class StartedRun:
    """Generation 0 of one run."""

    run: Run
    human: HumanData
    corpus: Artifact
    model: Artifact
    backends: Backends

    def attempt(self, generation: int) -> Attempt:
        return Attempt(self.run, generation)

    def context(self, generation: int, **changed: object) -> StageContext:
        """Context of an attempt of this run, with a recipe that has other sections or another seed."""
        return StageContext(
            attempt=self.attempt(generation), recipe=NGRAM_RECIPE.model_copy(update=changed), backends=self.backends
        )

    def history(self, *synthetic: CuratedCandidates, last_corpus: Artifact | None = None) -> GenerationHistory:
        """Generation 0, and one for each pair of candidates and decisions, all with its corpus and model."""
        generations = [self._generation(0, None)]
        generations += [self._generation(number, curated) for number, curated in enumerate(synthetic, 1)]
        if last_corpus:
            generations[-1] = replace(generations[-1], corpus=last_corpus)
        return GenerationHistory(tuple(generations))

    def _generation(self, number: int, curated: CuratedCandidates | None) -> Generation:
        attempt = self.attempt(number)
        metrics, verdict = attempt.artifact("metrics", {}), attempt.artifact("verdict", {})
        return Generation(
            attempt=attempt, curated=curated, corpus=self.corpus, model=self.model, metrics=metrics, verdict=verdict
        )


NGRAM_RECIPE = TINY.model_copy(update={"generate": Sampling(sampler="ngram")})
"""`TINY` with its sampler resolved."""


@pytest.fixture
def start_run(ingested: Site, backends: Backends) -> Callable[[str], StartedRun]:
    """Make generation 0 of a run of that name, on the n-gram backend."""

    def made(name: str) -> StartedRun:
        run = Run(ingested.store, name)
        run.initialize({}, set(), {})
        attempt = Attempt(run, 0)
        human = load_pinned_human(attempt, "letters")
        ctx = StageContext(attempt=attempt, recipe=NGRAM_RECIPE, backends=backends)
        corpus = mix(ctx, human, GenerationHistory())
        return StartedRun(run, human, corpus, train(ctx, human, GenerationHistory(), corpus), backends)

    return made


PublishCandidates = Callable[..., CuratedCandidates]


@pytest.fixture
def publish_candidates() -> PublishCandidates:
    """Publish candidates with these texts, and decisions that drop those at the places in `dropped`."""

    def publish(attempt: Attempt, texts: Sequence[str], dropped: Sequence[int] = ()) -> CuratedCandidates:
        ids = [synthetic_id(attempt.generation, attempt.number, place) for place in range(len(texts))]
        rows = [
            {
                "id": identity,
                "text": text,
                "origin": SYNTHETIC,
                "source_generation": attempt.generation,
                "source": "",
                "text_hash": text_hash(text),
            }
            for identity, text in zip(ids, texts, strict=True)
        ]
        decided = [
            {"id": identity, "filter": "exact", "kept": place not in dropped, "reason": ""}
            for place, identity in enumerate(ids)
        ]
        candidates = attempt.artifact("candidates", {"by": "hand"})
        decisions = attempt.artifact("decisions", {"by": "hand"}, candidates=candidates)
        for artifact, content, schema in ((candidates, rows, CANDIDATES), (decisions, decided, DECISIONS)):
            with artifact.draft() as draft:
                draft.write_part(pa.Table.from_pylist(content, schema=schema))
        return CuratedCandidates(candidates=candidates, decisions=decisions)

    return publish


@pytest.fixture(scope="session")
def tiny() -> TransformerTraining:
    """The smallest transformer that vLLM's CPU kernels take."""
    return TransformerTraining(
        max_steps=8,
        generation_0_max_steps=8,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        context_length=64,
        vocab_size=400,
        batch_size=4,
        precision="float32",
    )


@dataclass(frozen=True)
class Trained:
    """A model folder, and what its training reported."""

    folder: Path
    result: TrainingResult
    corpus: TrainingCorpus


@pytest.fixture(scope="session")
def first(backends: Backends, tiny: TransformerTraining, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A transformer of human text alone."""
    folder = tmp_path_factory.mktemp("first")
    corpus = TrainingCorpus(human_texts(60), [])
    job = TrainJob(settings=tiny, corpus=corpus, folder=folder, seed=1)
    return Trained(folder, backends.trainer().train(job, lambda *_: None), corpus)


@pytest.fixture(scope="session")
def second(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """A descendant of it, one part in three human; the same shape, other weights."""
    folder = tmp_path_factory.mktemp("second")
    corpus = TrainingCorpus(human_texts(20, seed=5), human_texts(40, seed=6))
    job = TrainJob(settings=tiny, corpus=corpus, gen0_model=first.folder, folder=folder, seed=2)
    return Trained(folder, backends.trainer().train(job, lambda *_: None), corpus)


_OWNER = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from tasks.backends import Prompt, Resources, Sampling
from tasks.backends.registry import Backends
from tests.tasks.conftest import PROMPTS
backends = Backends(Resources(kv_cache_mib=16, max_num_seqs=64), Path(sys.argv[2]))
sampler = backends.sampler(Sampling(sampler="server", max_tokens=16))
answers = sampler.sample(Path(sys.argv[1]), PROMPTS, lambda *_: None)
print(json.dumps([asdict(one) for one in answers]), flush=True)
sys.stdin.read()
"""

PROMPTS = [Prompt(text, 100 + place) for place, text in enumerate(["", "The old", "It was the year", "", "Zebra "] * 8)]


@dataclass(frozen=True)
class Served:
    """A vLLM server that a run has started for an adapter, which has its base too; and its completions."""

    address: str
    adapter: Path
    completions: list[Completion]


@pytest.fixture(scope="session")
def adapter(first: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A low-rank adapter on the first model, and its probe by PEFT."""
    from peft import LoraConfig, get_peft_model
    from torch import inference_mode, manual_seed, tensor
    from transformers import LlamaForCausalLM

    folder = tmp_path_factory.mktemp("adapter")
    manual_seed(3)
    base = LlamaForCausalLM.from_pretrained(first.folder).eval()
    adapted = get_peft_model(base, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = str(first.folder)
    adapted.save_pretrained(folder)
    ids = json.loads((first.folder / "probe.json").read_text())["token_ids"]
    with inference_mode():
        logs = adapted(input_ids=tensor([ids])).logits[0, :-1].float().log_softmax(-1)
    total = float(logs.gather(1, tensor(ids[1:])[:, None]).sum())
    (folder / "probe.json").write_text(json.dumps({"token_ids": ids, "log_probability": total}))
    return folder


@pytest.fixture(scope="session")
def served(adapter: Path, first: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One real server for all tests; at the end its owner is killed, and no process of it may remain."""
    logs = tmp_path_factory.mktemp("served")
    # So that the server can be asked by chat too; it reads this when it starts, and others look into the folder.
    template = first.folder / "chat_template.jinja"
    template.write_text("{% for turn in messages %}{{ turn.content }}{% endfor %}")
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(adapter), str(logs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert owner.stdout is not None
    try:
        completions = [Completion(**one) for one in json.loads(owner.stdout.readline() or "[]")]
        log = (logs / "server-1.log").read_text()
        assert completions, log[-3000:]
        address = re.findall(r"answers at (\S+)", log)[-1]
        running = processes_with(str(adapter))
        assert len(running) >= 2
        template.unlink()
        yield Served(address, adapter, completions)
    finally:
        owner.kill()
        owner.communicate()
    until(lambda: not set(running) & set(processes_with(str(adapter))), "the end of all processes of the killed run")


def two_processes(folder: Path, kind: str, more: str = "") -> str:
    """Where accelerate's configuration of two processes on this machine is written.

    The kind of distribution, and other settings.
    """
    written = folder / "two.yaml"
    written.write_text(_TWO.format(kind=kind) + more)
    return str(written)


_TWO = """compute_environment: LOCAL_MACHINE
distributed_type: {kind}
num_machines: 1
num_processes: 2
machine_rank: 0
main_process_ip: 127.0.0.1
main_process_port: 0
use_cpu: false
mixed_precision: 'no'
"""


def processes_with(word: str) -> list[int]:
    """Processes that were started with this word on their command line, and everything below them."""
    parents, named = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rsplit(")", 1)[1].split()[:2]
            if state != "Z":
                parents[int(folder.name)] = int(parent)
                if word in (folder / "cmdline").read_text() and int(folder.name) != os.getpid():
                    named.append(int(folder.name))
    found = set(named)
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)
