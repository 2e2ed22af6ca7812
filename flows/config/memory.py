"""Compare the memory and disk space that a recipe needs with those of the machine, before a run begins."""

import shutil
from dataclasses import dataclass

from flows.config.recipe import Recipe
from flows.config.site import Site
from heirloom.errors import HeirloomError
from tasks.backends import TransformerTraining
from tasks.backends.inference.engine_arguments import EngineLoad
from tasks.backends.machine import Machine, this_machine
from tasks.backends.memory import (
    Estimate,
    disk_estimate,
    sampling_estimate,
    scoring_estimate,
    training_batch,
    training_estimate,
)
from tasks.backends.models.pretrained import shape_of_model
from tasks.backends.models.shape import ModelShape, scratch_shape
from tasks.orchestration.progress import logger

_RECORD_TOKENS = 1024
"""Assumed tokens of a prompt that contains a whole record. The engine is made for the real ones."""
_REMEDIES = {
    "activations": "lower `train.batch_size` or `train.context_length`, or set `train.gradient_checkpointing = true`",
    "logits": "lower `train.batch_size` or `train.context_length`, or set `train.chunked_cross_entropy = true`",
    "optimizer states": "train an adapter (`train.lora_rank`), or shard the model with `resources.accelerate_config`",
    "weights": "use a smaller model, or spread it over GPUs (`resources.tensor_parallel_size`, "
    "`resources.accelerate_config`)",
    "key-value cache": "lower `resources.max_num_seqs` or `resources.kv_cache_mib`",
    "models": "remove weights of old models (`heirloom gc`), or put the store on a larger disk",
    "checkpoints": "raise `resources.checkpoint_interval_s` above the time of a training, or put the store on a larger "
    "disk",
}
"""Largest part of an estimate: what makes it smaller."""


class UnknownShapeError(HeirloomError):
    """The configuration of the base model cannot be read here, so its memory cannot be estimated."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What the stages of a run need at most, in bytes, and what there is."""

    machine: Machine
    free_disk: int
    estimates: tuple[Estimate, ...]
    """Of one process of each stage that runs on this machine."""
    disk: Estimate
    num_weights: int
    dtype: str

    @property
    def available(self) -> int:
        """Free main memory, or the memory of the smallest GPU."""
        return min(gpu.memory for gpu in self.machine.gpus) if self.machine.gpus else self.machine.free_memory

    @property
    def needed(self) -> int:
        """Memory at the peak: on GPUs stages take turns; on a CPU the engine keeps its memory during a training."""
        totals = {estimate.stage: estimate.total for estimate in self.estimates}
        if self.machine.gpus:
            return max(totals.values())
        return max(totals["training"], totals["scoring"]) + totals.get("sampling", 0)

    def shortages(self) -> list[str]:
        """Return a sentence for memory and for disk space that do not suffice, with the setting that helps most."""
        sentences = []
        if self.needed > self.available:
            largest = max(self.estimates, key=lambda estimate: estimate.total)
            what = "a GPU has" if self.machine.gpus else "are free"
            sentences.append(
                f"The run needs about {_gib(self.needed)} of memory, but only {_gib(self.available)} {what}. "
                f"Most is for {largest.stage}: {_remedy(largest)}."
            )
        if self.disk.total > self.free_disk:
            sentences.append(
                f"The run needs about {_gib(self.disk.total)} of disk space, but only {_gib(self.free_disk)} are free: "
                f"{_remedy(self.disk)}."
            )
        return sentences


def plan_memory(recipe: Recipe, site: Site, machine: Machine | None = None) -> MemoryPlan | None:
    """Estimate the memory of a run; None for toy backends, which need next to none.

    Args:
        recipe: recipe with every `auto` replaced.
        site: resources of the run, and its store.
        machine: what is compared with; by default this machine.

    Raises:
        UnknownShapeError: the configuration of the base model cannot be read.
        HeirloomError: the key-value cache of one text does not fit into memory.
    """
    training, resources = recipe.train, site.resources
    if not isinstance(training, TransformerTraining):
        return None
    machine = machine or this_machine()
    try:
        shape = shape_of_model(training.base_model) if training.base_model else scratch_shape(training)
    except HeirloomError as error:
        raise UnknownShapeError(f"The memory of the run is not estimated: {error}") from error
    estimates = [
        training_estimate(shape, training, training_batch(shape, training, resources, machine)),
        scoring_estimate(shape, machine),
    ]
    if not resources.ray and not (recipe.generate.sampler == "server" and resources.server_urls):
        load = EngineLoad(shape=shape, num_tokens=_num_tokens(recipe, shape))
        estimates.append(sampling_estimate(load, recipe.generate, resources, machine))
    folder = next(path for path in (site.store, *site.store.resolve().parents) if path.exists())
    return MemoryPlan(
        machine=machine,
        free_disk=shutil.disk_usage(folder).free,
        estimates=tuple(estimates),
        disk=disk_estimate(shape, training, recipe.num_generations + 1),
        num_weights=shape.num_weights,
        dtype=shape.dtype,
    )


def require_memory(recipe: Recipe, site: Site) -> None:
    """Refuse a run that does not fit this machine; only warn with `resources.check_memory = false`.

    Raises:
        HeirloomError: memory or disk space does not suffice; the message names the setting that helps.
    """
    try:
        plan = plan_memory(recipe, site)
    except UnknownShapeError as error:
        # A run may resume without its base, and a training from it reports what is missing.
        logger.warning("%s", error)
        return
    shortages = " ".join(plan.shortages()) if plan else ""
    if not shortages:
        return
    if site.resources.check_memory:
        raise HeirloomError(
            f"{shortages} `heirloom plan` shows the parts. To run all the same, set `resources.check_memory = false` "
            f"in "
            "the file that `--site` names."
        )
    logger.warning(shortages)


def _num_tokens(recipe: Recipe, shape: ModelShape) -> int:
    prompts = recipe.prompts
    lengths = {"unconditional": 1, "prefix": 2 * prompts.prefix_words}
    longest = lengths.get(prompts.template_name, _RECORD_TOKENS) + recipe.generate.max_tokens
    return min(longest, shape.max_positions or longest)


def _remedy(estimate: Estimate) -> str:
    """Return the setting that makes the largest part smaller. Scoring loads the model whole, on one GPU."""
    if estimate.stage == "scoring":
        return "use a smaller model"
    largest = max((name for name in estimate.parts if name in _REMEDIES), key=lambda name: estimate.parts[name])
    return _REMEDIES[largest]


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
