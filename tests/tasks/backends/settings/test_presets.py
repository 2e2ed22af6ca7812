import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.config.loading import load_recipe
from heirloom.errors import HeirloomError
from tasks.backends.registry import require_installed
from tasks.backends.settings.presets import PRESETS
from tasks.backends.settings.training import TransformerTraining

_BASE = {"base_model": "smollm2", "init_from": "base"}


@pytest.mark.parametrize(
    ("explicit", "preset"),
    [
        ({}, "scratch-small"),
        ({"init_from": "base"}, "scratch-small"),
        (_BASE, "full-finetune"),
        ({"base_model": "smollm2", "init_from": "previous"}, "full-finetune"),
        ({**_BASE, "lora_rank": 8}, "lora"),
        ({**_BASE, "preset": "pretrain"}, "pretrain"),
    ],
)
def test_the_preset_follows_from_what_is_trained_unless_it_is_named(explicit: dict[str, object], preset: str) -> None:
    assert TransformerTraining.model_validate(explicit).preset == preset


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("scratch-small", {"optimizer": "muon", "learning_rate": 0.02, "context_length": 128, "max_grad_norm": 1.0}),
        (
            "pretrain",
            {
                "learning_rate": 3e-4,
                "lr_scheduler": "cosine",
                "warmup_ratio": 0.01,
                "adam_beta2": 0.95,
                "packing": True,
            },
        ),
        (
            "full-finetune",
            {"learning_rate": 2e-5, "lr_scheduler": "linear", "num_epochs": 2, "context_length": 0, "lora_rank": 0},
        ),
        (
            "lora",
            {"learning_rate": 2e-4, "lr_scheduler": "constant", "lora_rank": 32, "lora_alpha": 32, "batch_size": 8},
        ),
        (
            "qlora",
            {"lora_rank": 64, "lora_alpha": 16, "max_grad_norm": 0.3, "batch_size": 16, "save_adapter_only": True},
        ),
    ],
)
def test_a_preset_sets_its_published_values(preset: str, expected: dict[str, object]) -> None:
    base = {} if preset == "scratch-small" else _BASE
    settings = TransformerTraining.model_validate({**base, "preset": preset})
    assert {name: getattr(settings, name) for name in expected} == expected
    assert ("optimizer" in settings.preset_fields) == (preset != "scratch-small")
    assert settings.preset_fields.isdisjoint(settings.model_fields_set)


def test_no_rate_of_small_models_reaches_a_pretrained_model_by_default() -> None:
    for objective in ("lm", "sft", "dpo"):
        for preset in set(PRESETS) - {"scratch-small"}:
            settings = TransformerTraining.model_validate({**_BASE, "preset": preset, "objective": objective})
            assert settings.optimizer == "adamw"
            assert settings.learning_rate <= 3e-4
    for preset, rate in (("full-finetune", 1e-6), ("lora", 1e-5)):
        assert TransformerTraining.model_validate({**_BASE, "preset": preset, "objective": "dpo"}).learning_rate == rate


@given(
    preset=st.sampled_from(["pretrain", "full-finetune", "lora"]),
    explicit=st.fixed_dictionaries(
        {},
        optional={
            "learning_rate": st.floats(1e-7, 1e-3),
            "batch_size": st.integers(1, 64),
            "context_length": st.integers(16, 4096),
            "weight_decay": st.floats(0, 1),
            "packing": st.booleans(),
            "warmup_ratio": st.floats(0, 0.5),
            "gradient_checkpointing": st.booleans(),
        },
    ),
)
def test_explicit_settings_win_and_a_stored_recipe_reads_back_the_same(
    preset: str, explicit: dict[str, object]
) -> None:
    settings = TransformerTraining.model_validate({**_BASE, "preset": preset, **explicit})
    assert {name: getattr(settings, name) for name in explicit} == explicit
    assert settings.model_fields_set == {*_BASE, "preset", *explicit}
    assert TransformerTraining.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize("length", ["max_steps", "generation_0_max_steps", "max_tokens"])
def test_an_explicit_length_replaces_the_epochs_of_a_preset(length: str) -> None:
    settings = TransformerTraining.model_validate({**_BASE, length: 20})
    assert settings.num_epochs is None
    assert getattr(settings, length) == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "lora"}, "but train.init_from is 'scratch'"),
        ({**_BASE, "preset": "lora", "lora_rank": 0}, "but train.lora_rank is 0"),
        ({**_BASE, "preset": "full-finetune", "lora_rank": 8}, "Set train.preset = 'lora'"),
        ({**_BASE, "preset": "qlora", "save_adapter_only": False}, "Set train.save_adapter_only = true"),
        ({"context_length": 8}, "Set at least 16"),
        ({"context_length": 0}, "Set a length"),
        ({**_BASE, "preset": "loro"}, "Input should be 'scratch-small'"),
    ],
)
def test_presets_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TransformerTraining.model_validate(settings)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_qlora_without_its_library_is_refused_with_what_to_do() -> None:
    settings = TransformerTraining.model_validate({**_BASE, "preset": "qlora"})
    with pytest.raises(HeirloomError, match="bitsandbytes is not installed"):
        require_installed(settings)


def test_settings_of_scratch_models_have_the_fingerprint_of_before() -> None:
    dumped = TransformerTraining().model_dump(mode="json")
    assert {"preset", "adam_beta2", "max_grad_norm"}.isdisjoint(dumped)


def test_the_published_experiment_on_opt_keeps_its_own_schedule() -> None:
    train = load_recipe("recursive-opt").train
    assert isinstance(train, TransformerTraining)
    assert (train.lr_scheduler, train.warmup_ratio, train.adam_beta2, train.gradient_checkpointing) == (
        "constant",
        0,
        0.95,
        False,
    )
