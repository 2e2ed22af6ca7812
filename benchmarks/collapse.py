"""The story at benchmark size: 1,500 human passages, five generations, three seeds, three arms.

naive and guarded are the demo's recipes with three times the text and the steps that go with it; human-only is the
same model on human text alone, stopped at its best held-out loss. An interrupted benchmark goes on where it
stood. Figures are of the last generation against generation 0 of the same run, the worst of the three seeds.
"""

import statistics
from collections.abc import Sequence

import duckdb

from benchmarks.figures import WORK, Figure
from curation.splitting import IngestSettings
from flows.compare import compare
from flows.demo import ARMS
from flows.recipe import Recipe, Site, load_recipe
from storage.catalog import open_catalog
from storage.sources import DOCSTRINGS
from tasks.backends import Resources
from tasks.coat import without_coat
from tasks.ingest import ingest

SEEDS = (0, 1, 2)
_PASSAGES = 1500
_STEPS = {"train.human_only_steps=400", "train.steps=800", "measure.voice_records=1500", "measure.sample_words=90000"}
_STORE = WORK / "collapse"


def measure() -> list[Figure]:
    """Run every seed that is not finished, then read the figures from the store."""
    site = Site(store=_STORE, resources=Resources(trainers=2, samplers=2))
    settings = IngestSettings(
        passage_characters=(80, 360), split_by="source", reserve_records=_PASSAGES, heldout_records=_PASSAGES // 2
    )
    with without_coat():
        ingest(_STORE, "docs", [DOCSTRINGS], settings)
        for seed in SEEDS:
            compare(_arms(seed), site, f"seed-{seed}")
    return _figures(open_catalog(_STORE))


def _arms(seed: int) -> list[Recipe]:
    arms = []
    for arm in ARMS:
        changes = [f'name="{arm}-{seed}"', 'human="docs"', f"seed={seed}", *sorted(_STEPS)]
        if arm == "human-only":
            changes += ["train.human_only_steps=1200"]
        arms.append(load_recipe(arm, changes))
    return arms


def _figures(catalog: duckdb.DuckDBPyConnection) -> list[Figure]:
    def value(arm: str, seed: int, metric: str, last: bool) -> float:
        order = "desc" if last else "asc"
        question = f"""select value from metrics where run = '{arm}-{seed}' and subject = 'model'
            and metric = '{metric}' order by generation {order} limit 1"""
        ((found,),) = catalog.sql(question).fetchall()
        return float(found)

    def ratios(arm: str, metric: str) -> list[float]:
        return [value(arm, seed, metric, last=True) / value(arm, seed, metric, last=False) for seed in SEEDS]

    def ends(arm: str, metric: str) -> list[float]:
        return [value(arm, seed, metric, last=True) for seed in SEEDS]

    naive, recalibrated = ratios("naive", "perplexity"), ratios("naive", "recalibrated_perplexity")
    rare, guarded = ends("naive", "rare_word_coverage"), ratios("guarded", "perplexity")
    covered = ratios("guarded", "rare_word_coverage")
    figures = [
        Figure(
            "naive: held-out perplexity, last over first, least of seeds",
            _round(min(naive)),
            "ratio",
            ">= 20",
            min(naive) >= 20,
        ),
        Figure("naive: the same, recalibrated", _round(min(recalibrated)), "ratio", ">= 5", min(recalibrated) >= 5),
        Figure(
            "naive: rare-word coverage at the end, most of seeds",
            _round(max(rare)),
            "share",
            "< 0.03",
            max(rare) < 0.03,
        ),
        Figure(
            "guarded: held-out perplexity, last over first, most of seeds",
            _round(max(guarded)),
            "ratio",
            "<= 1",
            max(guarded) <= 1,
        ),
        Figure(
            "guarded: rare-word coverage, last over first, least of seeds",
            _round(min(covered)),
            "ratio",
            ">= 1",
            min(covered) >= 1,
        ),
    ]
    for arm in ARMS:
        for metric in ("perplexity", "recalibrated_perplexity", "rare_word_coverage", "types", "repetition"):
            figures += _spread(
                f"{arm}: {metric}", [value(arm, seed, metric, last=False) for seed in SEEDS], ends(arm, metric)
            )
    return figures


def _spread(name: str, first: Sequence[float], last: Sequence[float]) -> list[Figure]:
    return [
        Figure(f"{name}, generation 0, median", _round(statistics.median(first)), ""),
        Figure(f"{name}, last generation, median", _round(statistics.median(last)), ""),
        Figure(f"{name}, last generation, seeds", ", ".join(str(_round(value)) for value in last), ""),
    ]


def _round(value: float) -> float:
    return float(f"{value:.4g}")
