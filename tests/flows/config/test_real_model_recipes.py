"""Recipes for pretrained models: they load, and the memory plan covers models of 7 and 70 billion weights."""

import json
from pathlib import Path

import pytest

from flows.config.loading import load_recipe
from flows.config.memory import plan_memory
from flows.config.site import Site
from tasks.backends import Resources, TransformerTraining
from tasks.backends.machine import Gpu, Machine

_RECIPES = (
    "continued-pretraining",
    "chat-sft",
    "distillation",
    "rephrasing",
    "best-of-dpo",
    "self-distillation",
)
_GIB = 1 << 30
_CONFIGS = {
    # As published of Mistral 7B and Llama 3 70B.
    7: {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336},
    70: {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672},
}
_COMMON = {
    "model_type": "llama",
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}


def _model(folder: Path, billions: int) -> Path:
    """Write the configuration of a model, which is all that a plan reads."""
    model = folder / f"{billions}b"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({**_COMMON, **_CONFIGS[billions]}))
    return model


def _machine(num_gpus: int, memory_gib: int = 80) -> Machine:
    memory = memory_gib * _GIB
    gpus = tuple(Gpu(name=str(number), memory=memory, free_memory=memory) for number in range(num_gpus))
    return Machine(memory=2048 * _GIB, free_memory=2000 * _GIB, gpus=gpus)


def _fsdp(folder: Path, processes: int) -> str:
    path = folder / "fsdp.yaml"
    path.write_text(f"distributed_type: FSDP\nnum_processes: {processes}\n")
    return str(path)


@pytest.mark.parametrize("name", _RECIPES)
def test_the_recipe_trains_a_pretrained_model_and_lists_changes_for_more_gpus(name: str) -> None:
    training = load_recipe(name).train
    assert isinstance(training, TransformerTraining)
    assert (training.base_model, training.optimizer) == ("smollm2", "adamw")
    assert training.learning_rate <= 1e-4
    comments = (Path(__file__).parents[3] / "flows" / "recipes" / f"{name}.toml").read_text()
    assert all(f"{number} GPU" in comments for number in (1, 8, 64))


@pytest.mark.parametrize("name", _RECIPES)
def test_seven_billion_weights_fit_eight_gpus_by_fsdp_and_not_one(name: str, tmp_path: Path) -> None:
    model = _model(tmp_path, 7)
    recipe = load_recipe(name, [f"train.base_model={model}", "generate.sampler=vllm", "generate.teacher=''"])
    sharded = Site(store=tmp_path, resources=Resources(accelerate_config=_fsdp(tmp_path, 8), num_sample_workers=8))
    plan = plan_memory(recipe, sharded, _machine(8))
    assert plan is not None
    assert plan.num_weights == pytest.approx(7.2e9, rel=0.02)
    assert plan.needed < plan.available
    alone = plan_memory(recipe, Site(store=tmp_path), _machine(1))
    assert alone is not None
    assert any("GiB of memory" in shortage and "training" in shortage for shortage in alone.shortages())


@pytest.mark.parametrize("name", ["chat-sft", "distillation", "best-of-dpo", "self-distillation"])
def test_seven_billion_weights_fit_one_gpu_with_an_adapter(name: str, tmp_path: Path) -> None:
    model = _model(tmp_path, 7)
    changes = [f"train.base_model={model}", "train.preset=lora", "train.lora_rank=32"]
    recipe = load_recipe(name, [*changes, "generate.sampler=vllm", "generate.teacher=''"])
    plan = plan_memory(recipe, Site(store=tmp_path), _machine(1))
    assert plan is not None
    assert plan.needed < plan.available


@pytest.mark.parametrize("name", _RECIPES)
def test_seventy_billion_weights_fit_sixty_four_gpus_of_180_gib_and_are_scored_whole(name: str, tmp_path: Path) -> None:
    model = _model(tmp_path, 70)
    recipe = load_recipe(
        name, [f"train.base_model={model}", "generate.sampler=vllm", "generate.teacher=''", "train.batch_size=128"]
    )
    resources = Resources(accelerate_config=_fsdp(tmp_path, 64), tensor_parallel_size=8)
    plan = plan_memory(recipe, Site(store=tmp_path, resources=resources), _machine(8, memory_gib=180))
    assert plan is not None
    assert plan.num_weights == pytest.approx(69e9, rel=0.03)
    assert plan.needed < plan.available
    totals = {estimate.stage: estimate.total for estimate in plan.estimates}
    assert totals["training"] < 80 * _GIB < 128 * _GIB < totals["scoring"]
