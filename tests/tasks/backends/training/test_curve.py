from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the train extra")

from tasks.backends import LogPoint
from tasks.backends.training.callbacks import LoggingCallback, training_log

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
