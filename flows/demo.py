"""Collapse, and no collapse, in one picture: two loops on the same human text, the same seed, the same training.

*naive* learns from its own cold words alone; *guarded* keeps all human text, sees it last in each training,
and adds fresh curated words. *human-only* is the same model on human text alone, stopped at its best.

    heirloom demo --quick
"""

from pathlib import Path

from curation.splitting import IngestSettings
from flows.compare import compare
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.ingest import ingest
from storage.readers.discovery import PYTHON_DOCS
from tasks.backends import NgramTraining
from tasks.backends.registry import open_backends
from tasks.orchestration.prefect import flow
from tasks.orchestration.runners import map_pieces

ARMS = ("naive", "guarded", "human-only")


def demo_recipes(quick: bool, seed: int) -> list[Recipe]:
    """The arms of the demo; the quick ones count words instead of training a transformer."""
    recipes = [load_recipe(arm).model_copy(update={"dataset": "demo", "seed": seed}) for arm in ARMS]
    if not quick:
        return recipes
    counting = []
    for recipe in recipes[:2]:
        curate = recipe.curate.model_copy(update={"encoder": "hashing"})
        counting.append(recipe.model_copy(update={"train": NgramTraining(), "curate": curate}))
    return counting


def demo_ingest(source: str, passages: int) -> IngestSettings:
    """How the demo cuts human text: passages of 80 to 360 characters, split by file where there are files."""
    by_file = source == PYTHON_DOCS or Path(source).is_dir()
    return IngestSettings(
        passage_length_chars=(80, 360),
        split_by="source" if by_file else "record",
        max_train_records=passages,
        max_heldout_records=max(100, passages // 2),
    )


@flow(name="demo", flow_run_name="demo")
def demo(recipes: list[Recipe], site: Site, source: str, passages: int) -> Path:
    """Ingest, run all arms, and write the report; returns its folder."""
    with open_backends(site.resources, site.synced().store / "logs", map_pieces) as backends:
        for recipe in recipes:
            backends.preload(recipe.train, recipe.resolve_auto().generate)
        ingest([source], "demo", demo_ingest(source, passages), site)
        return compare(recipes, site, "demo")
