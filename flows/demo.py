"""The demo: a loop that collapses, a loop that does not, and training on human text alone, in one report.

All three use the same human text, seed and training settings. *naive* trains each generation on the text of the last
one alone, sampled at a low temperature. *guarded* keeps all human text, orders it last in each training, and adds
filtered candidates. *human-only* trains on human text alone, with early stopping.

    heirloom demo --quick
    heirloom demo --model smollm2

With a base model, *naive* and *guarded* fine-tune that model, and what each generation answers to one prompt is shown.
"""

from collections.abc import Sequence
from pathlib import Path

from curation.splitting import IngestSettings
from flows.compare import compare
from flows.config.loading import load_recipe
from flows.config.memory import plan_memory
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.ingest import ingest
from storage.readers.discovery import PYTHON_DOCS
from tasks.backends import NgramTraining, TransformerTraining
from tasks.backends.models.pretrained import require_available
from tasks.backends.registry import open_backends
from tasks.orchestration.prefect import flow
from tasks.orchestration.runners import map_pieces

ARMS = ("naive", "guarded", "human-only")
_LOOPS = ("naive", "guarded")
_PASSAGE_LENGTH_CHARS = (80, 360)

NUM_PASSAGES, NUM_PASSAGES_OF_BASE_MODEL = 400, 200
"""Human passages to train on: with models from scratch, and with a base model, which is slower by two orders."""
_PROMPT = "A good program is"
_CANDIDATES_PER_PASSAGE = {"naive": 1.0, "guarded": 2.0}
_FINE_TUNING = {
    "preset": "lora",
    "init_from": "previous",
    "lora_rank": 16,
    "learning_rate": 1e-3,
    "max_steps": 20,
    "generation_0_max_steps": 20,
    "batch_size": 8,
    "context_length": 128,
    "packing": True,
    "gradient_checkpointing": False,
}
"""A high rate for few steps: the collapse of many generations within five."""


def demo_recipes(seed: int, *, quick: bool = False, base_model: str = "") -> list[Recipe]:
    """Return the recipes of the demo.

    Args:
        seed: seed of all of them.
        quick: whether n-gram models are trained instead of transformers.
        base_model: pretrained model that the loops fine-tune; empty: tiny models from scratch.

    Raises:
        HeirloomError: the base model is not there.
    """
    arms = _LOOPS if quick or base_model else ARMS
    recipes = [load_recipe(arm).model_copy(update={"dataset": "demo", "seed": seed}) for arm in arms]
    if base_model:
        require_available(base_model)
        return [_with_base_model(recipe, base_model) for recipe in recipes]
    if not quick:
        return recipes
    return [
        recipe.model_copy(
            update={"train": NgramTraining(), "curate": recipe.curate.model_copy(update={"encoder": "hashing"})}
        )
        for recipe in recipes
    ]


def demo_ingest(source: str, passages: int) -> IngestSettings:
    """Return the ingest settings of the demo: short passages, split by file if the source has several files."""
    has_files = source == PYTHON_DOCS or Path(source).is_dir()
    return IngestSettings(
        passage_length_chars=_PASSAGE_LENGTH_CHARS,
        split_by="source" if has_files else "record",
        max_train_records=passages,
        max_heldout_records=max(100, passages // 2),
    )


def fits_in_parallel(recipes: Sequence[Recipe], site: Site) -> bool:
    """Whether the memory of this machine suffices for all recipes at once, each with processes of its own."""
    plans = [plan_memory(recipe.resolve_auto(), site) for recipe in recipes]
    return all(plan is None or plan.needed * len(recipes) <= plan.available for plan in plans)


@flow(name="demo", flow_run_name="demo")
def demo(recipes: list[Recipe], site: Site, source: str, passages: int) -> Path:
    """Ingest the source, run all recipes, and write the report; return the folder of the report."""
    with open_backends(site.resources, site.synced().store / "logs", map_pieces) as backends:
        for recipe in recipes:
            backends.preload(recipe.train, recipe.resolve_auto().generate)
        ingest([source], "demo", demo_ingest(source, passages), site)
        return compare(recipes, site, "demo")


def _with_base_model(recipe: Recipe, base_model: str) -> Recipe:
    """Return a recipe of the demo that fine-tunes a base model, sized for two cores and 135 million weights.

    The sizes of the evaluation are fixed, so that both loops are measured by the same texts.
    """
    schedule = recipe.train.model_dump()["human_ratio_schedule"]
    training = {**_FINE_TUNING, "base_model": base_model, "human_ratio_schedule": schedule}
    evaluation = {
        "sizing": "fixed",
        "num_samples": 60,
        "embedding_sample_records": 60,
        "showcase_prompt": _PROMPT,
    }
    candidates = _CANDIDATES_PER_PASSAGE[recipe.name]
    return recipe.model_copy(
        update={
            "train": TransformerTraining.model_validate(training),
            "prompts": recipe.prompts.model_copy(update={"prompts_per_human_record": candidates}),
            "generate": recipe.generate.model_copy(update={"max_tokens": 64}),
            "evaluate": recipe.evaluate.model_copy(update=evaluation),
        }
    )
