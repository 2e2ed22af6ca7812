"""Callbacks of a training, and its loss curve."""

import pytest

pytest.importorskip("torch", reason="weights are torch's")
pytest.importorskip("transformers", reason="needs the train extra")

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from tasks.backends import LogPoint
from tasks.backends.training.callbacks import LoggingCallback, WeightAveragingCallback, training_log


def _trained(averaging: WeightAveragingCallback, folder: Path, first: int = 0, last: int = 10) -> torch.nn.Linear:
    """A layer whose weights are the number of the step."""
    arguments = TrainingArguments(str(folder), report_to=[], use_cpu=True)
    state, control, layer = TrainerState(global_step=first, max_steps=10), TrainerControl(), torch.nn.Linear(2, 2)
    averaging.on_train_begin(arguments, state, control, layer)
    for step in range(first + 1, last + 1):
        state.global_step = step
        with torch.no_grad():
            for weight in layer.parameters():
                weight.fill_(step)
        averaging.on_step_end(arguments, state, control, layer)
    if last == 10:
        averaging.on_train_end(arguments, state, control, layer)
    else:
        (folder / f"checkpoint-{last}").mkdir(parents=True)
        averaging.on_save(arguments, state, control)
    return layer


@pytest.mark.parametrize(("share", "mean"), [(0.01, 10.0), (0.1, 10.0), (0.4, 8.5), (1.0, 5.5)])
def test_a_training_ends_with_the_mean_over_its_last_steps(share: float, mean: float, tmp_path: Path) -> None:
    layer = _trained(WeightAveragingCallback(share), tmp_path)
    assert torch.allclose(layer.weight, torch.full((2, 2), mean))
    assert torch.allclose(layer.bias, torch.full((2,), mean))


@pytest.mark.parametrize("killed_after", [3, 8])
def test_a_mean_goes_on_from_its_checkpoint(killed_after: int, tmp_path: Path) -> None:
    _trained(WeightAveragingCallback(0.4), tmp_path, last=killed_after)
    resumed = _trained(WeightAveragingCallback(0.4), tmp_path, first=killed_after)
    whole = _trained(WeightAveragingCallback(0.4), tmp_path / "whole")
    assert torch.equal(resumed.weight, whole.weight)


def test_a_training_that_ends_before_there_is_a_mean_keeps_its_weights(tmp_path: Path) -> None:
    layer, arguments = torch.nn.Linear(2, 2), TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    before = layer.weight.clone()
    WeightAveragingCallback(0.4).on_train_end(
        arguments, TrainerState(global_step=3, max_steps=10), TrainerControl(), layer
    )
    assert torch.equal(layer.weight, before)


def test_weights_that_are_away_between_steps_are_refused(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    layer.weight.ds_tensor = torch.zeros(2)
    arguments = TrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    with pytest.raises(ValueError, match="ZeRO stage 3 of DeepSpeed shards them"):
        WeightAveragingCallback(0.3).on_train_begin(arguments, TrainerState(max_steps=10), TrainerControl(), layer)


_ENTRY = {"loss": 2.0, "learning_rate": 0.1, "tokens_per_second": 5.0}


def _state(step: int, *history: dict[str, float]) -> Any:
    return SimpleNamespace(global_step=step, max_steps=10, log_history=list(history), is_world_process_zero=True)


def test_points_join_the_losses_of_a_step() -> None:
    history = [{"step": 2, **_ENTRY}, {"step": 2, "eval_loss": 3.0}, {"step": 4, **_ENTRY, "loss": 1.0}]
    assert training_log(history) == (LogPoint(2, 2.0, 0.1, 5.0, 3.0), LogPoint(4, 1.0, 0.1, 5.0, None))


def test_a_loss_that_is_not_a_number_is_refused_with_its_step() -> None:
    with pytest.raises(ValueError, match="diverged: the loss is nan at step 4"):
        training_log([{"step": 2, **_ENTRY}, {"step": 4, **_ENTRY, "loss": float("nan")}])


def test_training_ends_at_the_first_loss_that_is_not_a_number() -> None:
    reporting = LoggingCallback(lambda *_: None, 100)
    reporting.on_train_begin(None, _state(0), None)
    for loss, stops in ((1.0, False), (float("inf"), True)):
        control = SimpleNamespace(should_training_stop=False)
        reporting.on_log(None, _state(3, {"step": 3, "loss": loss}), control)
        assert control.should_training_stop is stops


def test_speed_is_counted_from_where_a_training_resumes() -> None:
    reporting = LoggingCallback(lambda *_: None, 100)
    reporting.on_train_begin(None, _state(7), None)
    state = _state(9, {"step": 9, "loss": 1.0})
    reporting._since -= 1
    reporting.on_log(None, state, SimpleNamespace(should_training_stop=False))
    assert 150 < state.log_history[-1]["tokens_per_second"] <= 200
