import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="a transformer needs the train extra")

from tasks.backends import PreferencePair, Resources, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tasks.backends.training.callbacks import newest_checkpoint
from tasks.backends.workers.process import WorkerError
from tests.conftest import human_texts
from tests.tasks.conftest import Trained

pytestmark = pytest.mark.transformer

_PAIRS = [
    PreferencePair("", good, bad, human=True)
    for good, bad in zip(human_texts(24, seed=22), human_texts(24, seed=23), strict=True)
]


@pytest.fixture
def eager(tmp_path: Path) -> Iterator[Backends]:
    """A process of its own, because this test kills it, which writes a checkpoint after every step."""
    opened = Backends(Resources(checkpoint_interval_s=1e-6), tmp_path / "logs")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "more",
    [
        {"weight_averaging_fraction": 0.8, "residual_dropout": 0.1},
        {"optimizer": "adamw", "learning_rate": 0.003, "load_best_model_at_end": True, "dropout": 0.2},
        {"objective": "dpo", "init_from": "base", "lora_rank": 4, "optimizer": "adamw", "learning_rate": 0.003},
    ],
)
def test_a_killed_training_resumes_and_ends_in_the_same_bytes(
    eager: Backends,
    backends: Backends,
    tiny: TransformerTraining,
    first: Trained,
    tmp_path: Path,
    more: dict[str, object],
) -> None:
    settings = TransformerTraining.model_validate({**tiny.model_dump(), "max_steps": 24, **more})
    heldout, beginning = human_texts(12, seed=11), first.folder if settings.init_from == "base" else None
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()

    def kill(step: int, _: int) -> None:
        if step == 9:
            os.kill(eager.pool.workers[0]._process.pid, signal.SIGKILL)

    corpus = replace(first.corpus, preferences=_PAIRS)
    job = TrainJob(
        settings=settings,
        corpus=corpus,
        eval_texts=heldout,
        gen0_model=first.folder,
        initial_weights=beginning,
        folder=tmp_path / "whole",
        seed=4,
    )
    killed_job = replace(job, folder=tmp_path / "killed")
    whole = backends.trainer().train(job, lambda *_: None)
    with pytest.raises(WorkerError, match="died during train"):
        eager.trainer().train(killed_job, kill)
    resumed = eager.trainer().train(killed_job, lambda *_: None)
    assert 8 <= resumed.resumed_from_step < 24
    assert whole.resumed_from_step == 0
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    for name in ("model.safetensors", "probe.json", "config.json", "tokenizer.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    strip = [point._replace(tokens_per_second=0) for point in whole.log]
    assert [point._replace(tokens_per_second=0) for point in resumed.log] == strip
    assert (resumed.tokens, resumed.human_tokens) == (whole.tokens, whole.human_tokens)


def test_a_checkpoint_that_was_cut_off_is_removed_and_the_one_before_is_taken(tmp_path: Path) -> None:
    for step in (5, 40, 100):
        (tmp_path / "checkpoints" / f"checkpoint-{step}").mkdir(parents=True)
    assert newest_checkpoint(tmp_path / "nowhere") is None
    for step in (5, 40):
        (tmp_path / "checkpoints" / f"checkpoint-{step}" / "whole").touch()
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoints" / "checkpoint-40"
    assert not (tmp_path / "checkpoints" / "checkpoint-100").exists()
