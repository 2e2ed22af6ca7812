"""Count false and late alarms of the shipped gates, on seeds that nothing was tuned on.

False: any alarm in ten generations of `accumulate` at temperature 1, where all records are kept and sampling is
unbiased. Late: under `replace`, an alarm after the first generation whose paired 99 % interval of held-out loss, types
or rare words excludes no change. Data are languages and mixtures sampled for each seed, and scikit-learn's images of
digits.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.figures import WORK, Figure, remembered
from curation.splitting import DedupSettings, IngestSettings
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.datasets.snapshots import human_folder
from storage.query.catalog import open_catalog
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect

_FOLDER = WORK / "alarms"
_SEEDS = {"ngram": range(100, 112), "gaussian-mixture": range(100, 112), "vae": range(100, 103)}
_GENERATIONS = {"accumulate": 10, "replace": 5}
_NEVER = _GENERATIONS["replace"] + 1
_RECIPES = {"ngram": "ngram", "gaussian-mixture": "points", "vae": "digits"}
_LATE = f"""
    with alarms as (select min(generation) as at from gate_results where run = 'replace' and action <> 'go'),
    doubts as (select min(generation) as at from metrics where run = 'replace' and subject = 'model' and source = 'all'
        and ((metric like '%coverage_change' and high < 0) or (metric = 'loss_change' and low > 0)))
    select coalesce(doubts.at, {_NEVER}) < coalesce(alarms.at, {_NEVER}) from alarms, doubts"""


def figures() -> Iterator[Figure]:
    """Both rates on every toy backend."""
    for backend, seeds in _SEEDS.items():
        found = [remembered(_FOLDER / backend, f"seed-{seed}", lambda: _one(backend, seed)) for seed in seeds]  # noqa: B023
        false = sum(int(str(one.value)) for accumulated, _ in found for one in [accumulated])
        late = sum(str(one.value) == "late" for _, replaced in found for one in [replaced])
        turns = len(seeds) * _GENERATIONS["accumulate"]
        yield Figure(f"{backend}: false alarms in {turns} generations, {len(seeds)} seeds", false, "", "0", not false)
        yield Figure(f"{backend}: late alarms under replace, of {len(seeds)} seeds", late, "", "0", not late)


def _one(backend: str, seed: int) -> list[Figure]:
    store = _FOLDER / backend / f"store-{seed}"
    with without_prefect():
        if not human_folder(store, "people", 1).exists():
            ingest(
                store, "people", [_people(backend, seed, store)], IngestSettings(dedup=DedupSettings(method="exact"))
            )
        for policy in _GENERATIONS:
            evolve(_recipe(backend, policy, seed), Site(store=store))
    catalog = open_catalog(store)
    ((false,),) = catalog.sql(
        "select count(distinct generation) from gate_results where run = 'accumulate' and action <> 'go'"
    ).fetchall()
    ((late,),) = catalog.sql(_LATE).fetchall()
    return [
        Figure(f"{backend}, seed {seed}: generations with a false alarm", false, ""),
        Figure(f"{backend}, seed {seed}: alarm under replace", "late" if late else "in time", ""),
    ]


def _recipe(backend: str, policy: str, seed: int) -> Recipe:
    changes = [f'name="{policy}"', 'dataset="people"', f"seed={seed}", f"num_generations={_GENERATIONS[policy]}"]
    changes += ["curate.filters=[]", "prompts.prompts_per_human_record=1"]
    changes += ["evaluate.num_samples=300", "evaluate.embedding_sample_records=60", 'evaluate.showcase_prompt=""']
    changes += {"ngram": ["generate.max_tokens=24"], "vae": ["train.max_steps=800"]}.get(backend, [])
    values = load_recipe(_RECIPES[backend], changes).model_dump()
    return Recipe.model_validate({**values, "mix": {"policy": policy}})


def _people(backend: str, seed: int, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "people.jsonl"
    texts = {"ngram": _sentences, "gaussian-mixture": _mixture, "vae": _digits}[backend](np.random.default_rng(seed))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def _sentences(rng: np.random.Generator) -> Iterator[str]:
    """Texts of a language with a Zipf vocabulary and habits: after a word comes one of three, more often than not."""
    shares = 1 / np.arange(1, 1201)
    shares /= shares.sum()
    habits = rng.choice(1200, (1200, 3), p=shares)
    for _ in range(420):
        sentence = [int(rng.choice(1200, p=shares))]
        while len(sentence) < 20:
            habit = rng.random() < 0.7
            sentence.append(int(habits[sentence[-1], rng.integers(3)] if habit else rng.choice(1200, p=shares)))
        yield " ".join(f"w{word}" for word in sentence)


def _mixture(rng: np.random.Generator) -> Iterator[str]:
    means, spreads = rng.normal(0, 3, (2, 2)), rng.uniform(0.3, 1.2, (2, 2))
    for which in rng.random(600) < rng.uniform(0.3, 0.7):
        yield " ".join(f"{number:.3f}" for number in rng.normal(means[int(which)], spreads[int(which)]))


def _digits(rng: np.random.Generator) -> Iterator[str]:
    from sklearn.datasets import load_digits

    for picture in rng.permutation(load_digits().data):
        yield " ".join(f"{pixel:.0f}" for pixel in picture)
