import pytest
from pydantic import ValidationError

from tasks.backends.settings.training import TransformerTraining

_ADAMW = {"optimizer": "adamw", "learning_rate": 0.001}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_attention_heads": 3},
            "train.hidden_size is 128, which must be an even multiple of train.num_attention_heads",
        ),
        (
            {"init_from": "previous", "hidden_size": 100, "num_attention_heads": 3},
            "100, which must be an even multiple of train.num_attention_heads",
        ),
        (
            {"init_from": "base", "hidden_size": 132, "num_attention_heads": 4},
            "132, which must be an even multiple of train.num_attention_heads",
        ),
        ({"num_epochs": 2, "max_tokens": 1000}, "are both set. Set one of them"),
        ({"base_model": "gpt2"}, "train.init_from is 'scratch'"),
        ({"lora_rank": 8, **_ADAMW}, "train.lora_rank is set, but train.init_from"),
        ({"init_from": "base", "save_adapter_only": True}, "train.lora_rank is 0"),
        ({"weight_averaging_fraction": 0.5, "load_best_model_at_end": True}, "are both set. Set one of them"),
        ({"objective": "dpo", **_ADAMW}, "train.objective is 'dpo', but train.init_from"),
        (
            {"objective": "dpo", "init_from": "base", "load_best_model_at_end": True, **_ADAMW},
            "which DPO does not lower",
        ),
        (
            {"objective": "dpo", "init_from": "base", "human_ratio_schedule": "ramp", **_ADAMW},
            "DPO shuffles its pairs",
        ),
        ({"objective": "dpo", "init_from": "base"}, "does not work with LoRA or DPO"),
        ({"lora_rank": 8, "init_from": "previous"}, "does not work with LoRA or DPO"),
        ({"optimizer": "adamw"}, "too high for AdamW. Set about 0.001"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TransformerTraining.model_validate(settings)


def test_the_defaults_agree() -> None:
    assert TransformerTraining().init_from == "scratch"
    assert (
        TransformerTraining.model_validate(
            {"objective": "dpo", "init_from": "base", "lora_rank": 4, **_ADAMW}
        ).save_adapter_only
        is False
    )


def test_later_settings_are_not_dumped_unless_they_are_set() -> None:
    dumped = TransformerTraining().model_dump()
    assert {"weight_averaging_fraction", "residual_dropout"}.isdisjoint(dumped)
    assert TransformerTraining(weight_averaging_fraction=0.25).model_dump() == {
        **dumped,
        "weight_averaging_fraction": 0.25,
    }
