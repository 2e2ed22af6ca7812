"""The actor as it is without a cluster: one process, asked one thing at a time."""

import json
import threading
from pathlib import Path

import pytest

from tasks.backends import Prompt, Resources, Sampling
from tasks.backends.workers.ray_actor import EngineActor


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that generates `yes` and nothing else."""
    counts = [[[], [[3, 8], [1, 2]]]]
    (tmp_path / "ngram.json").write_text(json.dumps({"order": 1, "vocabulary": ["", "", "", " yes"], "counts": counts}))
    return tmp_path


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


def test_outside_a_cluster_nothing_waits_to_end_this_process(tmp_path: Path) -> None:
    host = EngineActor("ngram", tmp_path / "engine.log", 1)
    host.close()
    assert [thread.name for thread in threading.enumerate() if "_end_when_idle" in thread.name] == []
