"""Run replace, accumulate and accumulate-subsample in the loop, with models trained from scratch, at two temperatures.

Gerstgrasser et al. 2024 (arXiv:2404.01413) pre-train on TinyStories; here human text is Python's documentation. Runs
stay in the work folder: an interrupted row resumes.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import WORK, Figure, short
from curation.splitting import IngestSettings
from flows.compare import compare
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from storage.query.catalog import open_catalog
from storage.readers.discovery import PYTHON_DOCS
from tasks.backends import Resources
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect

_ARMS = (
    *(("replace", 1.0), ("accumulate-subsample", 1.0), ("accumulate", 1.0)),
    *(("replace", 0.3), ("accumulate", 0.3)),
)


def loops(
    *, backend: str = "ngram", seeds: int = 3, generations: int = 4, passages: int = 800, epochs: int = 0
) -> Iterator[Figure]:
    """Held-out loss in nats per token, model by model.

    `epochs` of each training where the backend takes any: more text, more steps, as was published.
    """
    store = WORK / "reproductions" / f"loops-{backend}-{passages}-{epochs}"
    site = Site(store=store, resources=Resources(num_train_workers=2, num_sample_workers=2))
    human = IngestSettings(
        passage_length_chars=(80, 360), split_by="source", max_train_records=passages, max_heldout_records=passages // 4
    )
    losses: dict[tuple[str, float], list[list[float]]] = {arm: [] for arm in _ARMS}
    with without_prefect():
        ingest(store, "docs", [PYTHON_DOCS], human)
        for seed in range(seeds):
            arms = {arm: _recipe(arm, backend, seed, generations, epochs) for arm in _ARMS}
            compare(list(arms.values()), site, f"seed-{seed}")
            for arm, recipe in arms.items():
                losses[arm].append(_losses(store, recipe, generations))
    yield from _figures(losses, generations)


def _recipe(arm: tuple[str, float], backend: str, seed: int, generations: int, epochs: int) -> Recipe:
    policy, temperature = arm
    changes = [
        *(
            f'name="{policy}-{temperature}-{seed}"',
            'dataset="docs"',
            f"seed={seed}",
            f"num_generations={generations}",
        ),
        *(f"generate.temperature={temperature}", "prompts.prompts_per_human_record=1"),
        *("evaluate.num_sources=0", "evaluate.num_samples=100", "curate.filters=[]", 'curate.encoder="hashing"'),
    ]
    changes += [f"train.num_epochs={epochs}", 'train.lr_scheduler="linear"'] if epochs else []
    values = load_recipe("ngram" if backend == "ngram" else policy, changes).model_dump()
    return Recipe.model_validate({**values, "mix": {"policy": policy}})


def _losses(store: Path, recipe: Recipe, generations: int) -> list[float]:
    question = f"""select generation, value from metrics where run = '{recipe.name}' and subject = 'model'
        and source = 'all' and metric = 'perplexity' and generation <= {generations} order by generation"""
    return [math.log(value) for _, value in open_catalog(store, [recipe.name]).sql(question).fetchall()]


def _figures(losses: dict[tuple[str, float], list[list[float]]], generations: int) -> Iterator[Figure]:
    def rises(policy: str, temperature: float) -> list[float]:
        return [one[generations] - one[0] for one in losses[policy, temperature]]

    for (policy, temperature), seeds in losses.items():
        course = " / ".join(f"{statistics.median(one[place] for one in seeds):.2f}" for place in range(generations + 1))
        yield Figure(
            f"{policy}, T = {temperature}: held-out loss by generation, median of seeds",
            course,
            "nats",
            _PUBLISHED.get((policy, temperature), ""),
        )
    replace, between, keep = (rises(policy, 1.0) for policy in ("replace", "accumulate-subsample", "accumulate"))
    yield Figure(
        "T = 1: replace raises the loss, minimum over seeds", short(min(replace)), "nats", "+0.57", min(replace) > 0
    )
    yield _above("T = 1: replace over accumulate-subsample", replace, between, "> 0")
    yield _above("T = 1: accumulate-subsample over accumulate", between, keep, "> 0")
    yield Figure(
        "T = 1: accumulate does not raise the loss, maximum over seeds",
        short(max(keep)),
        "nats",
        "-0.08",
        max(keep) <= 0.02,
    )
    cold, cold_keep = rises("replace", 0.3), rises("accumulate", 0.3)
    yield Figure(
        "replace: rise at T = 0.3 over that at T = 1, minimum over seeds",
        short(min(a / b for a, b in zip(cold, replace, strict=True))),
        "ratio",
        "7.0: sampling bias is far worse than sampling noise",
        all(a > b for a, b in zip(cold, replace, strict=True)),
    )
    yield _above("T = 0.3: replace over accumulate", cold, cold_keep, "+4.07")
    yield Figure(
        "T = 0.3: accumulate does not raise the loss, maximum over seeds",
        short(max(cold_keep)),
        "nats",
        "-0.07",
        max(cold_keep) <= 0.02,
    )


def _above(name: str, more: Sequence[float], less: Sequence[float], published: str) -> Figure:
    """How far one policy's rise is above another's, seed by seed."""
    apart = [a - b for a, b in zip(more, less, strict=True)]
    return Figure(f"{name}, minimum over seeds", short(min(apart)), "nats", published, min(apart) > 0)


_PUBLISHED = {
    ("replace", 1.0): "1.82 to 2.39 (GPT-2 9M, rounds 1 and 4)",
    ("accumulate", 1.0): "1.82 to 1.74",
    ("replace", 0.3): "1.82 to 5.82",
    ("accumulate", 0.3): "1.82 to 1.75",
}
