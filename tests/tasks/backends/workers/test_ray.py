"""Engines on a Ray cluster: addresses, life time, errors.

Whole runs on a cluster: tests/tasks/orchestration/test_runners.py.
"""

import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from tasks.backends import NgramTraining, Prompt, Resources, Sampling
from tasks.backends.registry import open_backends
from tasks.backends.workers.ray_actor import EngineActor
from tasks.backends.workers.ray_cluster import TRAINING, RayEngines, connect, require_ray
from tasks.orchestration.runners import map_pieces
from tests.support.paths import ROOT


@pytest.mark.processes
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("ray://127.0.0.1:1", "Connection refused"),
        ("nonsense", "Invalid address"),
    ],
)
def test_an_address_without_a_cluster_is_an_error_that_names_it(address: str, message: str) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with pytest.raises(ValueError, match=f"^Cannot connect to the Ray cluster at '{address}'.*{message}"):
        connect(address)


@pytest.mark.processes
def test_a_cluster_that_is_started_here_refuses_a_process_without_its_token() -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    joining = "import ray, sys; ray.init(sys.argv[1], logging_level='ERROR'); print('joined')"
    program = (
        "import os, subprocess, sys, ray\n"
        "from tasks.backends.workers.ray_cluster import LOCAL, connect\n"
        "assert connect(LOCAL)\n"
        "assert ray.get(ray.remote(lambda: 42).remote()) == 42\n"
        "address = ray.get_runtime_context().gcs_address\n"
        "free = {name: value for name, value in os.environ.items() if not name.startswith('RAY_')}\n"
        f"words = [sys.executable, '-c', {joining!r}, address]\n"
        "found = subprocess.run(words, env=free, capture_output=True, text=True)\n"
        "assert found.returncode and 'joined' not in found.stdout, found.stdout\n"
        "print('refused')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert found.stdout.endswith("refused\n"), found.stdout + found.stderr


def test_a_cluster_is_refused_where_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"Ray is not installed\. Run pip install 'heirloom\[ray\]'"):
        require_ray()


@pytest.mark.processes
def test_a_site_with_a_cluster_needs_it_before_any_work(tmp_path: Path) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    with (
        open_backends(Resources(ray="127.0.0.1:1"), tmp_path, map_pieces) as opened,
        pytest.raises(ValueError, match="Cannot connect to the Ray cluster"),
    ):
        opened.preload(NgramTraining(), Sampling(sampler="ngram"))


def test_without_a_mapper_of_pieces_local_processes_are_used(tmp_path: Path) -> None:
    with open_backends(Resources(ray="127.0.0.1:1"), tmp_path) as opened:
        assert opened.engines is None


def test_work_of_another_kind_waits_and_work_of_the_same_does_not(tmp_path: Path) -> None:
    engines, began = RayEngines(Resources(), tmp_path, map_pieces), []

    def work(kind: str) -> threading.Thread:
        def enter() -> None:
            with engines.reserve_gpus(kind):
                began.append(kind)

        started = threading.Thread(target=enter, daemon=True)
        started.start()
        return started

    with engines.reserve_gpus("ngram"):
        training = work(TRAINING)
        work("ngram").join(120)
        training.join(0.2)
        assert began == ["ngram"]
    training.join(120)
    assert began == ["ngram", TRAINING]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that generates `yes` and nothing else."""
    counts = [[[], [[3, 8], [1, 2]]]]
    (tmp_path / "ngram.json").write_text(json.dumps({"order": 1, "vocabulary": ["", "", "", " yes"], "counts": counts}))
    return tmp_path


@pytest.mark.processes
def test_a_process_that_died_is_started_again_and_a_refusal_has_its_reason(model: Path, tmp_path: Path) -> None:
    host = EngineActor("ngram", tmp_path / "logs" / "engine.log", 1)
    asked = (Sampling(sampler="ngram"), Resources(), model, [Prompt("", 1)])
    completions = host.call("sample", asked)
    host._worker.close()
    assert host.call("sample", asked) == completions
    with pytest.raises(ValueError, match="is not an n-gram model"):
        host.call("score", (tmp_path / "logs", ["yes"], (1.0,)))
    with pytest.raises(
        ValueError, match=r"nowhere does not exist on .*Every machine of the Ray cluster must have the store"
    ):
        host.call("score", (tmp_path / "nowhere", ["yes"], (1.0,)))
    host.close()
    assert not host._worker.alive


@pytest.mark.processes
def test_outside_a_cluster_nothing_waits_to_end_this_process(tmp_path: Path) -> None:
    host = EngineActor("ngram", tmp_path / "engine.log", 1)
    host.close()
    assert [thread.name for thread in threading.enumerate() if "_end_when_idle" in thread.name] == []
