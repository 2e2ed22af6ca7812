"""Pieces of a stage on threads and on Ray: the same results, in the same order."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from prefect import flow

from curation.pipeline import CurateSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.artifacts.artifact import MANIFEST, read_manifest
from tasks.backends import NgramTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob
from tasks.backends.registry import Backends, open_backends
from tasks.backends.workers import sampler_client, trainer_client
from tasks.backends.workers.process import WorkerError
from tasks.backends.workers.ray_cluster import LOCAL, connect
from tasks.curation import dedup_index as indexing
from tasks.curation.curate import _encode_part
from tasks.orchestration.prefect import without_prefect
from tasks.orchestration.runners import map_pieces, task_runner_for
from tests.conftest import human_texts
from tests.support.progress import ignore_progress
from tests.support.waiting import until
from tests.tasks.conftest import Trained

_PIECES = [(pa.array(human_texts(40, seed=seed)), CurateSettings(encoder="hashing")) for seed in range(3)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine, of several processes."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    import ray

    with pytest.MonkeyPatch.context() as patch:
        # Its processes step back for all others, which on a machine full of tests never ends.
        patch.setenv("RAY_worker_niceness", "0")
        assert connect(LOCAL)
    yield
    ray.shutdown()


def _engines() -> list[str]:
    import ray

    return [one["name"] for one in ray.util.list_named_actors(all_namespaces=True)]


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("ray", ["", LOCAL])
def test_pieces_come_back_in_order_and_the_same_from_threads_and_from_ray(
    ray: str, request: pytest.FixtureRequest
) -> None:
    if ray:
        request.getfixturevalue("cluster")

    # What a flow was given cannot always travel.
    @flow(task_runner=task_runner_for(ray), validate_parameters=False)
    def spreading(lock: object) -> list[bytes]:
        assert lock
        return [vectors.tobytes() for vectors in map_pieces(_encode_part, _PIECES, "embed")]

    with without_prefect():
        alone = [vectors.tobytes() for vectors in map_pieces(_encode_part, _PIECES, "embed")]
    assert len(set(alone)) == len(_PIECES)
    assert spreading(threading.Lock()) == alone
    assert np.frombuffer(alone[0], np.float16).size == 40 * 256


def test_nothing_to_do_is_no_piece() -> None:
    assert list(map_pieces(_encode_part, [], "embed")) == []


def _published(store: Path) -> dict[str, object]:
    """Every artifact of the run: its fingerprint, and the digest of each of its files."""
    found = [(path, read_manifest(path.parent)) for path in store.glob(f"runs/*/generation=*/attempt=*/*/{MANIFEST}")]
    return {str(path.relative_to(store)): (made["fingerprint"], made["files"]) for path, made in found}


@pytest.mark.usefixtures("prefect_server", "cluster")
def test_a_run_on_ray_leaves_what_one_on_threads_leaves_and_no_engine(
    ingested: Site, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, size in (
        (sampler_client, "_PROMPTS_PER_CALL"),
        (trainer_client, "_TEXTS_PER_CALL"),
        (indexing, "_PART_ROWS"),
    ):
        monkeypatch.setattr(module, size, 60)
    far = Site(store=shutil.copytree(ingested.store, tmp_path / "far"), resources=Resources.model_validate(_ON_RAY))
    one = recipe.model_copy(update={"num_generations": 1})
    evolve(one, ingested)
    evolve(one, far)
    assert len(_published(far.store)) > 15
    assert _published(far.store) == _published(ingested.store)
    assert {path.name for path in (far.store / "logs").glob("engine-*")} == {"engine-ngram-1.log", "engine-ngram-2.log"}
    assert _engines() == []


_ON_RAY = {"ray": LOCAL, "num_sample_workers": 2}
_TEXTS = ["the old river remembers the garden", "the garden forgets the river"] * 150


@pytest.mark.usefixtures("cluster")
def test_an_engine_lives_from_task_to_task_and_neither_beside_a_training_nor_after_a_fault(tmp_path: Path) -> None:
    model, living = tmp_path / "model", []
    model.mkdir()
    sampling = Sampling(sampler="ngram", max_tokens=8)

    def work() -> None:
        with (
            without_prefect(),
            open_backends(Resources.model_validate(_ON_RAY), tmp_path / "logs", map_pieces) as opened,
        ):
            trainer, sampler = opened.trainer(), opened.sampler(sampling)

            def learn(folder: Path) -> None:
                job = TrainJob(settings=NgramTraining(), corpus=TrainingCorpus(_TEXTS, []), folder=folder, seed=0)
                trainer.train(job, lambda *_: living.append(_engines()))

            learn(model)
            list(sampler.sample(model, [Prompt("the", seed) for seed in range(2)], ignore_progress))
            opened.scorer(NgramTraining()).score(model, _TEXTS, (1.0,), ignore_progress)
            assert _engines() == ["ngram-1"]
            learn(model)
            assert set(map(tuple, living)) == {()}
            list(sampler.sample(tmp_path / "elsewhere", [Prompt("the", 0)], ignore_progress))

    with pytest.raises(
        ValueError, match=r"elsewhere does not exist on .*Every machine of the Ray cluster must have the store"
    ):
        work()
    assert _engines() == []


@pytest.mark.transformer
@pytest.mark.skipif(not all(map(find_spec, ("torch", "vllm"))), reason="needs the train extra and vLLM")
@pytest.mark.usefixtures("cluster")
def test_vllm_on_a_cluster_gives_the_completions_of_a_local_engine(
    tmp_path: Path, first: Trained, backends: Backends
) -> None:
    sampling = Sampling(sampler="vllm", max_tokens=12)
    prompts = [Prompt("The old" if seed % 3 else "", seed) for seed in range(40)]
    here = list(backends.sampler(sampling).sample(first.folder, prompts, ignore_progress))
    there = Resources.model_validate({**_ON_RAY, "kv_cache_mib": 16, "max_num_seqs": 64})
    with without_prefect(), open_backends(there, tmp_path / "logs", map_pieces) as opened:
        assert list(opened.sampler(sampling).sample(first.folder, prompts, ignore_progress)) == here
        assert _engines() == ["vllm_engine-1"]
    assert _engines() == []


@pytest.mark.usefixtures("cluster")
def test_a_lost_engine_starts_again_and_an_idle_one_ends(tmp_path: Path) -> None:
    import ray

    from tasks.backends.workers import ray_actor as hosting

    class Hasty(hosting.EngineActor):
        def __init__(self, *arguments: object) -> None:
            hosting._IDLE_SECONDS = 10
            super().__init__(*arguments)

        def pid(self) -> int:
            return os.getpid()

    named = {"name": "ngram-1", "namespace": "killed", "lifetime": "detached", "max_restarts": 1, "max_task_retries": 1}
    engine = ray.remote(Hasty).options(num_cpus=0, **named).remote("ngram", tmp_path / "engine.log", 1)
    with pytest.raises(ValueError, match="is not an n-gram model"):
        hosting.call_engine("killed", "ngram-1", "score", (tmp_path, ["yes"], (1.0,)))
    # Ray's own way of killing ends the engine's process first, and an engine that is going could still be asked.
    os.kill(ray.get(engine.pid.remote()), signal.SIGKILL)
    with pytest.raises(ValueError, match="is not an n-gram model"):
        hosting.call_engine("killed", "ngram-1", "score", (tmp_path, ["yes"], (1.0,)))
    until(lambda: not _engines(), "the end of the engine")
    with pytest.raises(WorkerError, match=r"The engine ngram-1 ended before score\. Run the same command again"):
        hosting.call_engine("killed", "ngram-1", "score", (tmp_path, ["yes"], (1.0,)))


@pytest.mark.usefixtures("cluster")
def test_a_cluster_without_room_is_an_error_with_needed_and_present_gpus(tmp_path: Path) -> None:
    small = Resources(ray=LOCAL, gpus_per_engine=8, server_unavailable_timeout_s=1)
    with (
        without_prefect(),
        open_backends(small, tmp_path / "logs", map_pieces) as opened,
        pytest.raises(
            ValueError,
            match=r"Not all of 1 engines started .* within 1 s\. Each needs 8 GPUs, and the cluster has 0\. Free",
        ),
    ):
        list(opened.sampler(Sampling(sampler="ngram")).sample(tmp_path, [Prompt("", 0)], ignore_progress))
    assert _engines() == []
