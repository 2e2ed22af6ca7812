import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("torch", reason="its errors are torch's")

import torch
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from heirloom.errors import HeirloomError
from tasks.backends import Resources, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import require_trackers
from tasks.backends.training.trainer import explain_oom, train_in_process
from tests.conftest import human_texts


def test_running_out_of_memory_names_the_settings_to_lower() -> None:
    # More than any address space: refused by every machine, whatever it has.
    with (
        pytest.raises(
            ValueError,
            match=r"ran out of memory with train\.batch_size = 8 and train\.context_length = 128\. Lower them",
        ),
        explain_oom(TransformerTraining()),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_a_card_that_is_full_is_too_little_memory_too() -> None:
    with pytest.raises(ValueError, match="Error from torch: CUDA out of memory"), explain_oom(TransformerTraining()):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_any_other_error_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), explain_oom(TransformerTraining()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


class _Tracker(TrainerCallback):
    """Stands for the callback of a tracker: transformers creates one for each training that reports to it."""

    logged: ClassVar[list[tuple[str, dict[str, float]]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        self.logged.append((args.run_name, logs))


@pytest.mark.transformer
def test_a_training_is_reported_by_its_run_to_the_trackers_of_the_site_and_to_none_by_default(
    tiny: TransformerTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Tracker.logged.clear()
    for tracker in ("mlflow", "wandb", "trackio"):
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, tracker, _Tracker)
    for name, trackers in (("silent", ()), ("tracked", ("mlflow",))):
        folder = tmp_path / "runs" / name / "generation=2" / "attempt=1" / ".model"
        folder.mkdir(parents=True)
        job = TrainJob(
            settings=tiny,
            corpus=TrainingCorpus(human_texts(60), []),
            folder=folder,
            seed=1,
            resources=Resources(report_to=trackers),
        )
        train_in_process(job, lambda *_: None)
    assert {run for run, _ in _Tracker.logged} == {"tracked/generation=2/attempt=1"}
    assert sum("loss" in logs for _, logs in _Tracker.logged) == tiny.max_steps


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="mlflow is installed")
def test_a_tracker_that_is_not_installed_is_refused_with_what_to_do() -> None:
    with pytest.raises(HeirloomError, match="names mlflow, which is not installed"):
        require_trackers(Resources(report_to=("mlflow",)))
