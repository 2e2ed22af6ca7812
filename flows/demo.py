"""The demo: a loop that collapses, a loop that does not, and training on human text alone, in one report.

All three use the same human text, seed and training settings. *naive* trains each generation on the text of the last
one alone, sampled at a low temperature. *guarded* keeps all human text, orders it last in each training, and adds
filtered candidates. *human-only* trains on human text alone, with early stopping.

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
_QUICK_ARMS = ("naive", "guarded")
_PASSAGE_LENGTH_CHARS = (80, 360)


def demo_recipes(quick: bool, seed: int) -> list[Recipe]:
    """Return the recipes of the demo; the quick ones train n-gram models instead of transformers."""
    recipes = [
        load_recipe(arm).model_copy(update={"dataset": "demo", "seed": seed})
        for arm in (_QUICK_ARMS if quick else ARMS)
    ]
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


@flow(name="demo", flow_run_name="demo")
def demo(recipes: list[Recipe], site: Site, source: str, passages: int) -> Path:
    """Ingest the source, run all recipes, and write the report; return the folder of the report."""
    with open_backends(site.resources, site.synced().store / "logs", map_pieces) as backends:
        for recipe in recipes:
            backends.preload(recipe.train, recipe.resolve_auto().generate)
        ingest([source], "demo", demo_ingest(source, passages), site)
        return compare(recipes, site, "demo")
