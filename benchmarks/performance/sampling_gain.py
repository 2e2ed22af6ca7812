"""Measure the gain of quotas over random selection under replacement, and of topic steering, with n-gram models.

Three seeds each; nothing is timed.
"""

import json
import random
import shutil
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.figures import WORK, Figure, short
from benchmarks.support.generations import partial_generation
from benchmarks.support.template_model_server import asked_by, delivered, header, human_record
from curation.pipeline import CurateSettings
from curation.prompts.plan import PromptSettings
from curation.splitting import DedupSettings, IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.artifacts.artifact import read_table
from storage.query.catalog import open_catalog
from storage.readers.discovery import PYTHON_DOCS
from storage.runs.run import Attempt, Run
from tasks.backends import NgramTraining, Resources, Sampling
from tasks.backends.registry import Backends
from tasks.context import CuratedCandidates, GenerationHistory, StageContext
from tasks.curation.curate import curate
from tasks.generation.generate import generate
from tasks.ingestion.ingest import ingest, load_pinned_human
from tasks.mix import mix
from tasks.orchestration.prefect import without_prefect
from tasks.training.train import train

_STORE = WORK / "generation" / "selecting"
_SEEDS = (11, 12, 13)
"""Seeds that nothing here was tuned on."""
_GENERATIONS, _RECORDS, _EACH = 8, 400, 5
_TOPICS = 40
_FIRST = ("river", "garden")
_KEEP = CurateSettings(filters=())


def quota_figures() -> list[Figure]:
    """Words left after pure replacement: survivors selected by quota of their rarest word, against random selection."""
    _human(_STORE)
    kept: dict[str, list[float]] = {"random": [], "quota": []}
    for seed in _SEEDS:
        for arm, found in kept.items():
            name = f"{arm}-{seed}"
            with without_prefect():
                evolve(_replacing(name, seed, arm), Site(store=_STORE))
            asked = (
                "select value from metrics where run = $1 and subject = 'corpus' and source = 'all' and metric = "
                "'type_coverage'"
            )
            ((value,),) = (
                open_catalog(_STORE, [name]).execute(f"{asked} and generation = {_GENERATIONS}", [name]).fetchall()
            )
            found.append(value)
    ratio = min(quota / rng for quota, rng in zip(kept["quota"], kept["random"], strict=True))
    label = f"human vocabulary retained after {_GENERATIONS} generations of replacement"
    return [
        Figure(f"{label}: random selection", short(statistics.median(kept["random"])), "share"),
        Figure(f"{label}: selection by quota", short(statistics.median(kept["quota"])), "share"),
        Figure("quota / random selection, minimum over three seeds", short(ratio), "ratio", "> 1", ratio > 1),
    ]


def steering_figures() -> list[Figure]:
    """Held-out topics covered after a generation that a tail report steers, against one that nothing does.

    The model is trained on correct texts (`benchmarks/support/template_model_server.py`), so a text's topic, its
    subject and format, is detected from its words.
    """
    _honest(_STORE)
    gains, plain, steered = [], [], []
    with without_prefect():
        for seed in _SEEDS:
            with_report, without = (_coverage(seed, topics) for topics in (_TOPICS, 0))
            steered.append(with_report)
            plain.append(without)
            gains.append(with_report / without)
    return [
        Figure(
            "held-out topics covered after the next generation: no topic steering",
            short(statistics.median(plain)),
            "share",
        ),
        Figure(
            "held-out topics covered after the next generation: topic steering",
            short(statistics.median(steered)),
            "share",
        ),
        Figure("topic steering / none, minimum over three seeds", short(min(gains)), "ratio", "> 1", min(gains) > 1),
    ]


def few(reserve: list[str], count: int, seed: int) -> list[str]:
    """Headers of two subjects alone: a generation that leaves three to cover."""
    rng = random.Random(seed)  # noqa: S311  (prompts, not secrets)
    some = [text for text in reserve if asked_by(text)["subject"] in _FIRST]
    return [header(asked_by(rng.choice(some))) for _ in range(count)]


def _human(store: Path) -> None:
    settings = IngestSettings(passage_length_chars=(80, 360), max_train_records=_RECORDS, max_heldout_records=300)
    with without_prefect():
        ingest(store, "docs", [PYTHON_DOCS], settings)


def _honest(store: Path) -> None:
    rng, file = random.Random(0), store / "honest.jsonl"  # noqa: S311
    file.parent.mkdir(parents=True, exist_ok=True)
    texts = dict.fromkeys(human_record(rng) for _ in range(2 * _RECORDS))
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with without_prefect():
        ingest(store, "honest", [str(file)], IngestSettings(dedup=DedupSettings(method="exact")))


def _replacing(name: str, seed: int, arm: str) -> Recipe:
    taken: dict[str, Any] = {"policy": "fixed-fraction", "human_fraction": 0.0, "num_records": _RECORDS}
    return Recipe.model_validate(
        {
            "name": name,
            "dataset": "docs",
            "seed": seed,
            "num_generations": _GENERATIONS,
            "prompts": {"prompts_per_human_record": _EACH},
            "curate": {"filters": ["empty"]},
            "mix": taken | ({"stratify_by": "rarity"} if arm == "quota" else {}),
            "train": {"backend": "ngram"},
            "evaluate": {"num_samples": 50},
            # The loop is meant to collapse here.
            "gate": {"limits": []},
        }
    )


def _coverage(seed: int, topics: int) -> float:
    """Overlap of held-out and generated topics after two generations, of which the first has only two subjects.

    0 to 1.
    """
    run = Run(_STORE, f"steer-{seed}-{topics}")
    shutil.rmtree(run.folder, ignore_errors=True)
    run.initialize(_replacing(run.name, seed, "random").model_dump(mode="json"), set(), {})
    start, second = Attempt(run, 1), Attempt(run, 2)
    human = load_pinned_human(start, "honest")
    load_pinned_human(second, "honest")
    backends, sampling = Backends(Resources(), _STORE / "logs"), Sampling(sampler="ngram", max_tokens=60)
    history = GenerationHistory()
    first = PromptSettings(
        template_name="benchmarks.selecting:few", prompts_per_human_record=0.4, output_format="prompt_and_completion"
    )
    recipe = Recipe(
        name=run.name,
        dataset="honest",
        seed=seed,
        prompts=first,
        generate=sampling,
        curate=_KEEP,
        train=NgramTraining(order=5),
    )
    ctx = StageContext(attempt=start, recipe=recipe, backends=backends)
    corpus = mix(ctx, human, history)
    model = train(ctx, human, history, corpus)
    asked = generate(ctx, human, history, model)
    curated = CuratedCandidates(candidates=asked, decisions=curate(ctx, human, history, asked))
    then = PromptSettings.model_validate(
        {
            "template_name": "prefix",
            "prompts_per_human_record": 0.4,
            "max_prompts_per_record": 2,
            "topic_steering": {"num_topics": topics, "encoder": "hashing"},
        }
    )
    ctx = StageContext(attempt=second, recipe=recipe.model_copy(update={"prompts": then}), backends=backends)
    made = generate(ctx, human, GenerationHistory((partial_generation(start, model, curated),)), model)
    backends.close()
    held, before, after = (
        Counter(
            (found["subject"], found["format"])
            for found in map(delivered, read_table(one.folder, ["text"])["text"].to_pylist())
        )
        for one in (human.heldout, asked, made)
    )
    generated = before + after
    return sum(min(held[topic] / held.total(), generated[topic] / generated.total()) for topic in held)
