import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.config.memory import MemoryPlan, UnknownShapeError, plan_memory, require_memory
from flows.config.recipe import Recipe
from flows.config.site import Site
from heirloom.errors import HeirloomError
from tasks.backends.machine import Gpu, Machine
from tests.tasks.backends.models.test_shape import LLAMA_7B, LLAMA_70B

_GIB = 1 << 30
_FROM_BASE = {"init_from": "base", "optimizer": "adamw", "learning_rate": 1e-5, "context_length": 2048}


def _gpus(count: int) -> Machine:
    gpus = tuple(Gpu(name=str(index), memory=80 * _GIB, free_memory=80 * _GIB) for index in range(count))
    return Machine(memory=1024 * _GIB, free_memory=1000 * _GIB, gpus=gpus)


PlanOf = Callable[..., MemoryPlan]


@pytest.fixture
def plan_of(tmp_path: Path) -> PlanOf:
    """Plan a recipe from the base model with a configuration, on a machine."""

    def plan(config: dict[str, Any], machine: Machine, **tables: dict[str, Any]) -> MemoryPlan:
        (tmp_path / "config.json").write_text(json.dumps(config))
        train = {**_FROM_BASE, "base_model": str(tmp_path), **tables.get("train", {})}
        recipe = Recipe.model_validate(
            {"name": "x", "train": train, "generate": {"sampler": "vllm", "max_tokens": 512}}
        )
        site = Site.model_validate({"store": tmp_path / "store", "resources": tables.get("resources", {})})
        found = plan_memory(recipe, site, machine)
        assert found
        return found

    return plan


def _gib(plan: MemoryPlan) -> dict[str, float]:
    return {estimate.stage: estimate.total / _GIB for estimate in plan.estimates}


def test_full_training_of_seven_billion_weights_needs_sixteen_bytes_each(plan_of: PlanOf) -> None:
    plan = plan_of(LLAMA_7B, _gpus(1), train={"batch_size": 1, "gradient_checkpointing": True})
    # Weights, gradients and two moments in 32 bits, arXiv 1910.02054, and autocast's copy: 18 x 6.74 billion bytes.
    assert _gib(plan)["training"] == pytest.approx(18 * 6.74e9 / _GIB, rel=0.1)
    (shortage, *_) = plan.shortages()
    assert shortage.startswith("The run needs about 11")
    assert "80.0 GiB a GPU has. Most is for training: train an adapter (`train.lora_rank`), or shard" in shortage


def test_an_adapter_of_seven_billion_weights_fits_one_gpu_of_eighty_gigabytes(plan_of: PlanOf) -> None:
    adapter = {"batch_size": 2, "lora_rank": 16, "gradient_checkpointing": True}
    plan = plan_of(LLAMA_7B, _gpus(1), train=adapter)
    assert 40 < _gib(plan)["training"] < 80
    assert not [shortage for shortage in plan.shortages() if "memory" in shortage]


def test_seventy_billion_weights_are_sharded_over_eight_gpus(plan_of: PlanOf, tmp_path: Path) -> None:
    (tmp_path / "fsdp.yaml").write_text("distributed_type: FSDP\nnum_processes: 64\n")
    resources = {"tensor_parallel_size": 8, "accelerate_config": str(tmp_path / "fsdp.yaml")}
    alone = plan_of(LLAMA_70B, _gpus(8), train={"batch_size": 64})
    sharded = plan_of(
        LLAMA_70B, _gpus(8), train={"batch_size": 64, "gradient_checkpointing": True}, resources=resources
    )
    assert alone.needed > 1000 * _GIB
    assert _gib(sharded)["training"] < 80
    # 141 GB in bfloat16 over eight GPUs, and the rest of what the engine is granted for its cache.
    sampling = next(estimate for estimate in sharded.estimates if estimate.stage == "sampling")
    assert sampling.parts["weights"] == pytest.approx(70.55e9 * 2 / 8, rel=0.01)
    assert sampling.total == pytest.approx(0.9 * 80 * _GIB, rel=0.01)
    # Scoring runs on one GPU, and the plan reports it.
    assert _gib(sharded)["scoring"] > 80
    assert any("Most is for scoring: use a smaller model" in shortage for shortage in sharded.shortages())
    assert sharded.disk.parts["models"] == pytest.approx(6 * 141.1e9, rel=0.01)


def test_on_a_cpu_engine_and_training_add_up_and_the_largest_part_is_what_to_change(plan_of: PlanOf) -> None:
    laptop = Machine(memory=16 * _GIB, free_memory=12 * _GIB)
    plan = plan_of(LLAMA_7B, laptop, resources={"kv_cache_mib": 1024})
    stages = _gib(plan)
    assert plan.needed / _GIB == pytest.approx(stages["training"] + stages["sampling"])
    assert "but only 12.0 GiB are free" in plan.shortages()[0]


def test_a_run_that_does_not_fit_is_refused_or_warned_of(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_70B))
    train = {**_FROM_BASE, "base_model": str(tmp_path)}
    recipe = Recipe.model_validate({"name": "x", "train": train, "generate": {"sampler": "transformers"}})
    with pytest.raises(HeirloomError, match=r"The run needs about .* set `resources\.check_memory = false`"):
        require_memory(recipe, Site(store=tmp_path))
    require_memory(recipe, Site.model_validate({"store": tmp_path, "resources": {"check_memory": False}}))


def test_a_base_of_unknown_shape_is_reported_and_does_not_stop_a_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text("{}")
    recipe = Recipe.model_validate({"name": "x", "train": {**_FROM_BASE, "base_model": str(tmp_path)}})
    require_memory(recipe, Site(store=tmp_path))
    with pytest.raises(UnknownShapeError, match=r"The memory of the run is not estimated: .* has no hidden_size"):
        plan_memory(recipe, Site(store=tmp_path))


def test_toy_backends_are_not_estimated(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"name": "x", "train": {"backend": "ngram"}})
    assert plan_memory(recipe, Site(store=tmp_path)) is None
