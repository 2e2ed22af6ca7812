import pytest
from pydantic import ValidationError

from tasks.backends.settings.training import TransformerTraining

_ADAMW = {"optimiser": "adamw", "learning_rate": 0.001}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"heads": 3}, "train.hidden 128 must be an even multiple of train.heads 3"),
        ({"start": "previous", "hidden": 100, "heads": 3}, "100 must be an even multiple of train.heads 3"),
        ({"start": "base", "hidden": 132, "heads": 4}, "132 must be an even multiple of train.heads 4"),
        ({"epochs": 2, "token_budget": 1000}, "exclude each other"),
        ({"base": "gpt2"}, "train.start is 'scratch'"),
        ({"lora_rank": 8, **_ADAMW}, "an adapter needs a model below it"),
        ({"start": "base", "adapter": True}, "train.lora_rank is 0"),
        ({"averaged": 0.5, "stop_early": True}, "set one of them"),
        ({"objective": "dpo", **_ADAMW}, "DPO starts from a model"),
        ({"objective": "dpo", "start": "base", "stop_early": True, **_ADAMW}, "which DPO does not lower"),
        ({"objective": "dpo", "start": "base", "human_schedule": "ramp", **_ADAMW}, "in an order that the seed draws"),
        ({"objective": "dpo", "start": "base"}, "Muon is for whole models"),
        ({"lora_rank": 8, "start": "previous"}, "Muon is for whole models"),
        ({"optimiser": "adamw"}, "AdamW wants 0.001 or so"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TransformerTraining.model_validate(settings)


def test_the_defaults_agree() -> None:
    assert TransformerTraining().start == "scratch"
    assert (
        TransformerTraining.model_validate({"objective": "dpo", "start": "base", "lora_rank": 4, **_ADAMW}).adapter
        is False
    )


def test_what_came_later_is_not_told_where_it_is_not_set() -> None:
    told = TransformerTraining().model_dump()
    assert {"averaged", "residual_dropout"}.isdisjoint(told)
    assert TransformerTraining(averaged=0.25).model_dump() == {**told, "averaged": 0.25}
