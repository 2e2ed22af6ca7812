"""Run the demo at benchmark size: 1,500 human passages, five generations, three seeds, three arms.

naive and guarded are the demo's recipes with three times the text and proportional steps; human-only is the same model
on human text alone, with the best held-out loss. An interrupted benchmark resumes. Figures compare the last generation
with generation 0 of the same run, for the worst of the three seeds.
"""

import statistics
from collections.abc import Sequence

import duckdb

from benchmarks.figures import WORK, Ends, Figure, demo_goals, short
from curation.splitting import IngestSettings
from flows.compare import compare
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.demo import ARMS
from storage.query.catalog import open_catalog
from storage.readers.discovery import PYTHON_DOCS
from tasks.backends import Resources
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect

SEEDS = (0, 1, 2)
_PASSAGES = 1500
_STEPS = {
    "train.generation_0_max_steps=400",
    "train.max_steps=800",
    "evaluate.num_samples=1500",
    "evaluate.vocab_sample_words=90000",
}
_STORE = WORK / "collapse"


def measure() -> list[Figure]:
    """Run every seed that is not finished, then read the figures from the store."""
    site = Site(store=_STORE, resources=Resources(num_train_workers=2, num_sample_workers=2))
    settings = IngestSettings(
        passage_length_chars=(80, 360),
        split_by="source",
        max_train_records=_PASSAGES,
        max_heldout_records=_PASSAGES // 2,
    )
    with without_prefect():
        ingest(_STORE, "docs", [PYTHON_DOCS], settings)
        for seed in SEEDS:
            compare(_arms(seed), site, f"seed-{seed}")
    return _figures(open_catalog(_STORE))


def _arms(seed: int) -> list[Recipe]:
    arms = []
    for arm in ARMS:
        changes = [f'name="{arm}-{seed}"', 'dataset="docs"', f"seed={seed}", *sorted(_STEPS)]
        if arm == "human-only":
            changes += ["train.generation_0_max_steps=1200"]
        arms.append(load_recipe(arm, changes))
    return arms


def _figures(catalog: duckdb.DuckDBPyConnection) -> list[Figure]:
    runs = {arm: [_ends(catalog, f"{arm}-{seed}") for seed in SEEDS] for arm in ARMS}
    figures = demo_goals(runs)
    for arm, seeds in runs.items():
        for metric in (
            "perplexity",
            "perplexity_at_best_temperature",
            "rare_word_coverage",
            "vocabulary_size",
            "repetition",
        ):
            figures += _spread(f"{arm}: {metric}", *zip(*(seed[metric] for seed in seeds), strict=True))
    return figures


def _ends(catalog: duckdb.DuckDBPyConnection, run: str) -> dict[str, Ends]:
    question = f"""select metric, arg_min(value, generation), arg_max(value, generation)
        from metrics where run = '{run}' and subject = 'model' and source = 'all' group by metric"""
    return {metric: (first, last) for metric, first, last in catalog.sql(question).fetchall()}


def _spread(name: str, first: Sequence[float], last: Sequence[float]) -> list[Figure]:
    return [
        Figure(f"{name}, generation 0, median", short(statistics.median(first)), ""),
        Figure(f"{name}, last generation, median", short(statistics.median(last)), ""),
        Figure(f"{name}, last generation, seeds", ", ".join(str(short(value)) for value in last), ""),
    ]
