"""When engines live, and the error where none can. On a cluster: tests/tasks/orchestration/test_runners.py."""

import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from tasks.backends import NgramTraining, Resources, Sampling
from tasks.backends.registry import open_backends
from tasks.backends.workers.ray_cluster import TRAINING, RayEngines, connect, require_ray
from tasks.orchestration.runners import map_pieces


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


def test_a_cluster_is_refused_where_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"Ray is not installed\. Run pip install 'heirloom\[ray\]'"):
        require_ray()


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
