"""What purposeful sampling gains on models that count words: quotas against dice under replacement, steering against not steering.

Three seeds each; nothing here is timed.
"""

import random
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import WORK, Figure, short
from curation.cells import find_cells, nearest_cells
from curation.embedding import open_encoder
from curation.mixing import MixSettings
from curation.prompts import PromptSettings
from curation.splitting import IngestSettings
from curation.stages import CurateSettings
from flows.evolve import evolve
from flows.recipe import Recipe, Site
from storage.artifact import read_table
from storage.catalog import open_catalog
from storage.run import Attempt, Run
from storage.sources import DOCSTRINGS
from tasks.backends import NgramTraining, Resources, Sampling
from tasks.backends.pool import Backends
from tasks.coat import without_coat
from tasks.curate import curate
from tasks.generate import generate
from tasks.ingest import ingest, pinned_human
from tasks.mix import mix
from tasks.screen import pinned_withheld
from tasks.train import train

_STORE = WORK / "generation" / "selecting"
_SEEDS = (0, 1, 2)
_GENERATIONS, _RECORDS, _EACH = 8, 400, 3
_TOPICS = 24
_KEEP = CurateSettings(stages=())


def quota_figures() -> list[Figure]:
    """Words left after pure replacement: survivors taken by quota of their rarest word, against taken by dice."""
    _human(_STORE)
    kept: dict[str, list[float]] = {"dice": [], "quota": []}
    for seed in _SEEDS:
        for arm, found in kept.items():
            name = f"{arm}-{seed}"
            with without_coat():
                evolve(_replacing(name, seed, arm), Site(store=_STORE))
            asked = "select value from metrics where run = $1 and subject = 'corpus' and metric = 'type_coverage'"
            ((value,),) = (
                open_catalog(_STORE, [name]).execute(f"{asked} and generation = {_GENERATIONS}", [name]).fetchall()
            )
            found.append(value)
    ratio = min(quota / dice for quota, dice in zip(kept["quota"], kept["dice"], strict=True))
    told = f"human words left after {_GENERATIONS} generations of replacement"
    return [
        Figure(f"{told}: taken by dice", short(statistics.median(kept["dice"])), "share"),
        Figure(f"{told}: taken by quota", short(statistics.median(kept["quota"])), "share"),
        Figure("quota over dice, least of three seeds", short(ratio), "ratio", "> 1", ratio > 1),
    ]


def steering_figures() -> list[Figure]:
    """Held-out topics covered by a generation that a tail report steers, against one that nothing does."""
    _human(_STORE)
    gains, plain, steered = [], [], []
    with without_coat():
        for seed in _SEEDS:
            with_report, without = (_coverage(seed, topics) for topics in (_TOPICS, 0))
            steered.append(with_report)
            plain.append(without)
            gains.append(with_report / without)
    return [
        Figure("held-out topics covered by the next generation: not steered", short(statistics.median(plain)), "share"),
        Figure("the same: steered by the tail report", short(statistics.median(steered)), "share"),
        Figure("steered over not steered, least of three seeds", short(min(gains)), "ratio", "> 1", min(gains) > 1),
    ]


def few(reserve: list[str], count: int, seed: int) -> list[str]:
    """Openings of a few neighbouring records alone: a generation that has most topics left to cover."""
    dice = random.Random(seed)  # noqa: S311  (prompts, not secrets)
    some = sorted(reserve)[: len(reserve) // 10]
    return [" ".join(dice.choice(some).split()[:4]) for _ in range(count)]


def _human(store: Path) -> None:
    settings = IngestSettings(passage_characters=(80, 360), reserve_records=_RECORDS, heldout_records=300)
    with without_coat():
        ingest(store, "docs", [DOCSTRINGS], settings)


def _replacing(name: str, seed: int, arm: str) -> Recipe:
    taken: dict[str, Any] = {"policy": "fixed-fraction", "human_fraction": 0.0, "records": _RECORDS}
    return Recipe.model_validate(
        {
            "name": name,
            "human": "docs",
            "seed": seed,
            "generations": _GENERATIONS,
            "prompts": {"candidates_per_human_record": _EACH},
            "curate": {"stages": ["empty"]},
            "mix": taken | ({"strata": "rarity"} if arm == "quota" else {}),
            "train": {"backend": "ngram"},
            "measure": {"voice_records": 50},
            # The loop is meant to collapse here.
            "gate": {"limits": []},
        }
    )


def _coverage(seed: int, topics: int) -> float:
    """Share of held-out text whose topics the second generation covers, after one that began from a few topics."""
    run = Run(_STORE, f"steer-{seed}-{topics}")
    shutil.rmtree(run.folder, ignore_errors=True)
    run.begin({}, set(), {})
    start, second = Attempt(run, 1), Attempt(run, 2)
    human = pinned_human(start, "docs")
    pinned_human(second, "docs")
    backends, sampling = Backends(Resources(), _STORE / "logs"), Sampling(sampler="ngram", max_tokens=30)
    corpus = mix(start, human["reserve"], [], MixSettings(), seed)
    model = train(start, corpus, human["heldout"], None, NgramTraining(), seed, backends)
    first = PromptSettings(program="benchmarks.selecting:few", candidates_per_human_record=0.5)
    asked = generate(start, model, human["reserve"], first, sampling, seed, backends)
    decided = curate(start, asked, human["reserve"], pinned_withheld(start, human["reserve"]), [], _KEEP)
    then = PromptSettings.model_validate(
        {"program": "opening", "candidates_per_human_record": 0.5, "steer": {"topics": topics, "encoder": "hashing"}}
    )
    made = generate(second, model, human["reserve"], then, sampling, seed, backends, pool=[(asked, decided)])
    backends.close()
    encoder = open_encoder("hashing")
    held, said = (read_table(one.folder, ["text"])["text"].to_pylist() for one in (human["heldout"], made))
    before = read_table(asked.folder, ["text"])["text"].to_pylist()
    vectors = encoder.encode(held)
    centres = find_cells(vectors, _TOPICS)
    of_held, of_said = (
        np.bincount(nearest_cells(some, centres)[:, 0], minlength=len(centres)) / len(some)
        for some in (vectors, encoder.encode([*before, *said]))
    )
    return float(np.minimum(of_held, of_said).sum())
