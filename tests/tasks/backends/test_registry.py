import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from tasks.backends import NgramTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import Backends, open_backends, require_installed, resolve_sampler
from tasks.backends.workers.pool import WorkerPool
from tasks.backends.workers.process import Worker, WorkerError
from tests.support.progress import ignore_progress

_TEXTS = ["the old river remembers the garden", "the garden forgets the river"] * 150


def _absent(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)


def _present(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Backends]:
    """Processes of its own, because these tests end them."""
    opened = Backends(Resources(), tmp_path / "logs")
    yield opened
    opened.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Backends]:
    opened = Backends(Resources(num_train_workers=2), tmp_path / "logs")
    yield opened
    opened.close()


def _job(folder: Path) -> TrainJob[NgramTraining]:
    return TrainJob(settings=NgramTraining(), corpus=TrainingCorpus(_TEXTS, []), folder=folder, seed=0)


def _model(backends: Backends, folder: Path) -> Path:
    folder.mkdir()
    backends.trainer().train(_job(folder), ignore_progress)
    return folder


@pytest.mark.parametrize("asked", ["auto", "ngram"])
def test_an_ngram_model_is_sampled_by_ngram(asked: str) -> None:
    assert resolve_sampler(Sampling(sampler=asked), NgramTraining()).sampler == "ngram"


@pytest.mark.parametrize("asked", ["vllm", "transformers"])
def test_an_ngram_model_is_sampled_by_no_other_sampler(asked: str) -> None:
    with pytest.raises(ValueError, match=f"generate.sampler is '{asked}', but train.backend is 'ngram'"):
        resolve_sampler(Sampling(sampler=asked), NgramTraining())


def test_a_transformer_is_not_sampled_by_ngram() -> None:
    with pytest.raises(ValueError, match=r"generate\.sampler is 'ngram', but train\.backend is 'transformer'"):
        resolve_sampler(Sampling(sampler="ngram"), TransformerTraining())


def test_auto_takes_vllm_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _present(monkeypatch, "vllm")
    assert resolve_sampler(Sampling(), TransformerTraining()).sampler == "vllm"


def test_auto_takes_transformers_where_vllm_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _absent(monkeypatch, "vllm")
    assert resolve_sampler(Sampling(), TransformerTraining()).sampler == "transformers"


def test_vllm_that_is_asked_for_and_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _absent(monkeypatch, "vllm")
    with pytest.raises(ValueError, match=r"vLLM is not installed\. Install it, or set"):
        resolve_sampler(Sampling(sampler="vllm"), TransformerTraining())


def test_transformers_is_taken_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _present(monkeypatch, "vllm")
    assert resolve_sampler(Sampling(sampler="transformers"), TransformerTraining()).sampler == "transformers"


def test_resolving_changes_the_sampler_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _present(monkeypatch, "vllm")
    asked = Sampling(temperature=0.7, top_p=0.9, max_tokens=33)
    resolved = resolve_sampler(asked, TransformerTraining())
    assert resolved == asked.model_copy(update={"sampler": "vllm"})
    assert resolve_sampler(resolved, TransformerTraining()) == resolved


def test_a_transformer_without_torch_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "transformers", "accelerate"):
        _present(monkeypatch, name)
    require_installed(TransformerTraining())
    _absent(monkeypatch, "torch")
    with pytest.raises(ValueError, match=r"but torch is not installed\. Run `pip install"):
        require_installed(TransformerTraining())


def test_counting_needs_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "transformers", "accelerate"):
        _absent(monkeypatch, name)
    require_installed(NgramTraining())


@pytest.mark.processes
def test_a_second_piece_of_work_waits_for_the_only_worker(pool: Backends) -> None:
    got: list[Worker] = []

    def work() -> None:
        with pool.pool.lease("ngram", None) as worker:
            got.append(worker)

    with pool.pool.lease("ngram", None) as held:
        other = threading.Thread(target=work, daemon=True)
        other.start()
        other.join(0.5)
        assert got == []
    other.join(120)
    assert got == [held]


def test_two_workers_serve_two_at_the_same_time(two: Backends) -> None:
    with two.pool.lease("ngram", None) as one, two.pool.lease("ngram", None) as another:
        assert one is not another
        assert one.alive
        assert another.alive


@pytest.mark.processes
def test_a_worker_is_used_again(pool: Backends) -> None:
    with pool.pool.lease("ngram", None) as once:
        pass
    with pool.pool.lease("ngram", None) as again:
        assert again is once


def test_the_worker_that_holds_the_model_is_preferred(two: Backends) -> None:
    river, garden = Path("river"), Path("garden")
    with two.pool.lease("ngram", river) as for_river, two.pool.lease("ngram", garden) as for_garden:
        pass
    for model, worker in ((garden, for_garden), (garden, for_garden), (river, for_river), (river, for_river)):
        with two.pool.lease("ngram", model) as found:
            assert found is worker


def test_a_worker_without_a_model_comes_before_one_that_holds_another(two: Backends) -> None:
    with two.pool.lease("ngram", None) as idle, two.pool.lease("ngram", Path("river")) as for_river:
        pass
    with two.pool.lease("ngram", Path("garden")) as for_garden:
        assert for_garden is idle
    with two.pool.lease("ngram", Path("river")) as again:
        assert again is for_river


def test_warming_starts_what_the_work_needs_and_no_more(two: Backends) -> None:
    two.preload(NgramTraining(), Sampling(sampler="ngram"))
    two.preload(NgramTraining(), Sampling(sampler="ngram"))
    assert [(worker.module, worker.alive) for worker in two.pool.idle] == [("ngram", True)] * 2


def test_what_a_server_needs_is_asked_for_before_any_work(two: Backends) -> None:
    with pytest.raises(ValueError, match=r"has neither resources\.server_urls"):
        two.preload(NgramTraining(), Sampling(sampler="ngram", teacher="tiny"))
    assert two.pool.workers == ()


@pytest.mark.processes
def test_a_worker_that_died_at_work_is_replaced(pool: Backends, tmp_path: Path) -> None:
    model = _model(pool, tmp_path / "model")
    with pool.pool.lease("ngram", None) as dying:
        # Stopped first, so that it cannot have answered before it dies.
        os.kill(dying._process.pid, signal.SIGSTOP)
        answers = dying.stream("train", ignore_progress, _job(tmp_path))
        os.kill(dying._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="died during train"):
            list(answers)
    (score,) = pool.scorer(NgramTraining()).score(model, ["the river"], (1.0,), ignore_progress)
    assert score.tokens == 3


@pytest.mark.processes
def test_a_worker_that_died_while_idle_is_replaced(pool: Backends, tmp_path: Path) -> None:
    model = _model(pool, tmp_path / "model")
    with pool.pool.lease("ngram", None) as worker:
        pass
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    (score,) = pool.scorer(NgramTraining()).score(model, ["the river"], (1.0,), ignore_progress)
    assert score.tokens == 3


@pytest.mark.processes
def test_an_abandoned_sampling_ends_its_worker_and_frees_its_slot(pool: Backends, tmp_path: Path) -> None:
    model = _model(pool, tmp_path / "model")
    sampler = pool.sampler(Sampling(sampler="ngram"))
    left = sampler.sample(model, [Prompt("", seed) for seed in range(20)], ignore_progress)
    next(left)
    left.close()
    assert len(list(sampler.sample(model, [Prompt("", seed) for seed in range(20)], ignore_progress))) == 20


@pytest.mark.processes
def test_a_worker_that_cannot_be_started_keeps_no_place(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where a folder is needed")
    pool = Backends(Resources(), tmp_path / "logs")
    with pytest.raises(OSError, match="logs"), pool.pool.lease("ngram", None):
        pass
    (tmp_path / "logs").unlink()
    with pool.pool.lease("ngram", None) as worker:
        assert worker.alive
    pool.close()


def test_closing_ends_idle_workers_and_those_at_work(two: Backends, tmp_path: Path) -> None:
    model = _model(two, tmp_path / "model")
    answers = two.sampler(Sampling(sampler="ngram")).sample(
        model, [Prompt("", seed) for seed in range(50)], ignore_progress
    )
    next(answers)
    two.preload(NgramTraining(), Sampling(sampler="ngram"))
    (idle,) = two.pool.idle
    two.close()
    assert not idle.alive
    with pytest.raises(WorkerError, match="died during sample"):
        list(answers)
    assert two.pool.idle == ()


@pytest.mark.processes
def test_the_samplers_texts_come_one_a_prompt_and_in_order(pool: Backends, tmp_path: Path) -> None:
    model = _model(pool, tmp_path / "model")
    prompts = [Prompt("the", seed) for seed in range(5)]
    sampler = pool.sampler(Sampling(sampler="ngram"))
    together = list(sampler.sample(model, prompts, ignore_progress))
    assert together == [next(sampler.sample(model, [prompt], ignore_progress)) for prompt in prompts]


@pytest.mark.processes
def test_those_who_open_the_same_resources_share_the_processes(tmp_path: Path) -> None:
    resources = Resources(kv_cache_mib=17)
    with open_backends(resources, tmp_path / "logs") as outer:
        with open_backends(resources, tmp_path / "logs") as inner:
            assert inner is outer
            with inner.pool.lease("ngram", None) as worker:
                pass
        assert worker.alive
    assert not worker.alive
    with open_backends(resources, tmp_path / "logs") as later:
        assert later is not outer


def test_other_resources_have_processes_of_their_own(tmp_path: Path) -> None:
    with (
        open_backends(Resources(kv_cache_mib=17), tmp_path) as one,
        open_backends(Resources(kv_cache_mib=18), tmp_path) as another,
    ):
        assert one is not another


@pytest.mark.processes
def test_processes_are_closed_when_their_work_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with open_backends(Resources(kv_cache_mib=17), tmp_path) as opened, opened.pool.lease("ngram", None) as worker:
            workers.append(worker)
            raise RuntimeError("of no importance")

    workers: list[Worker] = []
    with pytest.raises(RuntimeError, match="of no importance"):
        fail()
    assert not workers[0].alive


def _with_gpus(folder: Path, num_gpus: int, **resources: int) -> WorkerPool:
    gpus = tuple(str(index) for index in range(num_gpus))
    return WorkerPool(Resources.model_validate(resources), folder / "logs", gpus)


@pytest.mark.processes
def test_every_engine_has_gpus_of_its_own(tmp_path: Path) -> None:
    pool = _with_gpus(tmp_path, 4, num_sample_workers=2, tensor_parallel_size=2)
    try:
        with pool.lease_many("server", None, 2) as engines:
            assert [engine.gpus for engine in engines] == [("0", "1"), ("2", "3")]
            engines[0].close()
        # The GPUs of an engine that has died are given to the next.
        with pool.lease_many("server", None, 2) as engines:
            assert {engine.gpus for engine in engines} == {("0", "1"), ("2", "3")}
    finally:
        pool.close()


@pytest.mark.processes
def test_engines_and_trainings_take_turns_on_gpus_and_not_on_a_cpu(tmp_path: Path) -> None:
    for num_gpus in (1, 0):
        pool = _with_gpus(tmp_path, num_gpus)
        try:
            with pool.lease("server", None) as engine:
                pass
            with pool.lease("transformer", None) as trainer:
                assert engine.alive == (num_gpus == 0)
                assert trainer.gpus is None
            # Work that needs no GPU changes nothing.
            with pool.lease("ngram", None):
                assert trainer.alive
            with pool.lease("server", None):
                assert trainer.alive == (num_gpus == 0)
        finally:
            pool.close()


@pytest.mark.processes
def test_an_engine_waits_until_the_training_has_released_the_gpu(tmp_path: Path) -> None:
    pool = _with_gpus(tmp_path, 1)
    try:
        leased = threading.Event()

        def sample() -> None:
            with pool.lease("server", None):
                leased.set()

        with pool.lease("transformer", None):
            sampling = threading.Thread(target=sample)
            sampling.start()
            assert not leased.wait(0.3)
        assert leased.wait(20)
        sampling.join()
    finally:
        pool.close()


@pytest.mark.processes
def test_processes_that_were_only_started_keep_no_gpu(tmp_path: Path) -> None:
    pool = _with_gpus(tmp_path, 1)
    try:
        pool.start_all("server")
        with pool.lease("transformer", None):
            assert pool.idle[0].alive
    finally:
        pool.close()


def test_more_engines_than_gpus_are_refused(tmp_path: Path) -> None:
    opened = Backends(Resources(num_sample_workers=2, tensor_parallel_size=2), tmp_path / "logs")
    opened.pool = _with_gpus(tmp_path, 2, num_sample_workers=2, tensor_parallel_size=2)
    with pytest.raises(ValueError, match="2 sampling processes with 2 GPUs each need 4 GPUs, but this machine has 2"):
        opened.preload(NgramTraining(), Sampling(sampler="ngram"))
    opened.pool = _with_gpus(tmp_path, 0, num_sample_workers=2, tensor_parallel_size=2)
    with pytest.raises(ValueError, match="An engine of 2 GPUs is asked for, but this machine has none"):
        opened.preload(NgramTraining(), Sampling(sampler="ngram"))
