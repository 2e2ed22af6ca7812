"""A loop that gets better than its human data alone: every policy, and the strongest human-only training, in one honest table.

A cell is one arm with one seed, a run in a store of its own in `headline` of the work folder; what is finished is remembered, and what is
not goes on where it stands. `HEIRLOOM_MINUTES` (60) says how long to add cells for; figures are made from those there are, and the
last ones say how many are missing. The small grid is 500 passages and five generations. Human-only arms differ in length, dropout, weight
decay and learning rate, each at the compute of one training and at that of the whole loop; the best of them is what the loop has to beat.
"""

import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import WORK, Figure, short
from curation.splitting import IngestSettings
from flows.evolve import evolve
from flows.recipe import Recipe, Site
from storage.artifact import read_manifest, read_table
from storage.sources import DOCSTRINGS
from tasks.coat import without_coat
from tasks.ingest import ingest

_WORK = WORK / "headline"
_SEEDS = (0, 1, 2)
_GENERATIONS = 5
_PASSAGES = 500
_STEPS = 300
_METRICS = ("perplexity", "recalibrated_perplexity", "rare_word_coverage", "types")

_NO_SIEVES: dict[str, Any] = {"stages": []}
_RAMP = {"human_schedule": "ramp", "steps": _STEPS, "human_only_steps": _STEPS // 2}
_EQUAL = {"steps": _STEPS, "human_only_steps": _STEPS // 2}
_THREE = {"candidates_per_human_record": 3}


def arms() -> dict[str, dict[str, Any]]:
    """Every arm by its name: what of a recipe it sets."""
    found: dict[str, dict[str, Any]] = {}
    for dropout in (0.0, 0.1, 0.2):
        found[f"guarded, dropout {dropout}"] = {
            "mix": {"policy": "anchor"},
            "prompts": _THREE,
            "train": {**_RAMP, "dropout": dropout},
        }
    found["guarded, no sieves"] = {"mix": {"policy": "anchor"}, "prompts": _THREE, "curate": _NO_SIEVES, "train": _RAMP}
    longer = {**_RAMP, "steps": 2 * _STEPS, "dropout": 0.2}
    found["guarded, twice the steps, dropout 0.2"] = {"mix": {"policy": "anchor"}, "prompts": _THREE, "train": longer}
    for policy in ("replace", "accumulate", "anchor"):
        for temperature in (0.7, 1.0):
            for curate in ({}, _NO_SIEVES):
                name = f"{policy}, T {temperature}, {'no sieves' if curate else 'curated'}"
                found[name] = {
                    "mix": {"policy": policy},
                    "generate": {"temperature": temperature},
                    "curate": curate,
                    "train": _EQUAL,
                }
    for share in (0.1, 0.5):
        mix = {"policy": "fixed-fraction", "human_fraction": share}
        for temperature in (0.7, 1.0):
            found[f"fixed fraction {share}, T {temperature}"] = {
                "mix": mix,
                "generate": {"temperature": temperature},
                "curate": _NO_SIEVES,
                "train": _EQUAL,
            }
    for steps in (_STEPS // 2, _STEPS, 2 * _STEPS, _GENERATIONS * _STEPS):
        for more in (
            {},
            {"dropout": 0.1},
            {"dropout": 0.2},
            {"weight_decay": 1.0},
            {"learning_rate": 0.01, "embedding_learning_rate": 0.0015},
        ):
            said = ", ".join(
                f"{key.replace('_', ' ')} {value}" for key, value in more.items() if not key.startswith("embedding")
            )
            name = ", ".join(filter(None, (f"human only, {steps} steps", said)))
            found[name] = {"generations": 0, "train": {"human_only_steps": steps, "stop_early": True, **more}}
    return found


def measure() -> list[Figure]:
    """Add cells while there is time, then say what those that are there show."""
    deadline = time.monotonic() + 60 * float(os.environ.get("HEIRLOOM_MINUTES", "60"))
    cells = [(arm, seed) for seed in _SEEDS for arm in arms()]
    for arm, seed in cells:
        if not _file(arm, seed).exists() and time.monotonic() < deadline:
            _live(arm, seed)
    found = {arm: [_read(arm, seed) for seed in _SEEDS if _file(arm, seed).exists()] for arm in arms()}
    missing = sum(not _file(*cell).exists() for cell in cells)
    return [
        *_verdict(found),
        *_table(found),
        Figure("cells that are still missing", missing, f"of {len(cells)}", "0", missing == 0),
    ]


def _live(arm: str, seed: int) -> None:
    store = _WORK / "store"
    with without_coat():
        if not (store / "human" / "docs").exists():
            split = IngestSettings(
                passage_characters=(80, 360), split_by="source", reserve_records=_PASSAGES, heldout_records=300
            )
            ingest(store, "docs", [DOCSTRINGS], split)
        asked = arms()[arm]
        recipe = Recipe.model_validate(
            {
                "human": "docs",
                "generations": _GENERATIONS,
                "gate": {"limits": []},
                **asked,
                "name": _slug(arm, seed),
                "seed": seed,
                "train": {"backend": "transformer", **asked["train"]},
            }
        )
        started = time.monotonic()
        evolve(recipe, Site(store=store))
    run = store / "runs" / recipe.name
    turns = [_turn(run / f"generation={number}" / "attempt=1") for number in range(recipe.generations + 1)]
    _file(arm, seed).write_text(json.dumps({"seconds": round(time.monotonic() - started), "turns": turns}))
    print(f"{arm}, seed {seed}: {[short(turn['recalibrated_perplexity']) for turn in turns]}", flush=True)


def _turn(attempt: Path) -> dict[str, float]:
    rows = read_table(attempt / "metrics").to_pylist()
    said = {row["metric"]: row["value"] for row in rows if row["subject"] == "model" and row["metric"] in _METRICS}
    facts = read_manifest(attempt / "model")["facts"]
    return {**said, "human_token_fraction": facts["human_token_fraction"], "tokens": facts["tokens"]}


def _verdict(found: dict[str, list[list[dict[str, float]]]]) -> Iterator[Figure]:
    """The best loop against the best human-only training, each the mean of its seeds, recalibrated."""

    def best(beginning: str) -> tuple[float, str]:
        means = [
            (_mean(turns, "recalibrated_perplexity"), arm)
            for arm, turns in found.items()
            if turns and arm.startswith(beginning)
        ]
        return min(means, default=(float("nan"), "none yet"))

    (ours, arm), (theirs, human) = best("guarded"), best("human only")
    gain = 1 - ours / theirs
    yield Figure(f"best loop ({arm}): recalibrated perplexity at the end", short(ours), "")
    yield Figure(f"best human-only ({human}): recalibrated perplexity", short(theirs), "")
    yield Figure("how far the loop is below it", short(gain), "share", ">= 0.03", gain >= 0.03)
    if turns := found.get(arm):
        covered = min(seed[-1]["rare_word_coverage"] / seed[0]["rare_word_coverage"] for seed in turns)
        yield Figure(
            "its rare-word coverage, last over first, least of seeds", short(covered), "ratio", "> 1", covered > 1
        )
        share = 1 - max(seed[-1]["human_token_fraction"] for seed in turns)
        yield Figure(
            "its synthetic share of training tokens, least of seeds", short(share), "share", ">= 0.5", share >= 0.5
        )


def _table(found: dict[str, list[list[dict[str, float]]]]) -> Iterator[Figure]:
    for arm, turns in found.items():
        for metric in _METRICS[:3] if turns else ():
            values = [seed[-1][metric] for seed in turns]
            width = f"{short(min(values))} to {short(max(values))}, {len(values)} seeds"
            yield Figure(f"{arm}: {metric.replace('_', ' ')}", short(statistics.mean(values)), width)


def _mean(turns: list[list[dict[str, float]]], metric: str) -> float:
    return statistics.mean(seed[-1][metric] for seed in turns)


def _slug(arm: str, seed: int) -> str:
    return (
        "".join(letter if letter.isalnum() or letter == "." else "-" for letter in arm).replace("--", "-") + f"-{seed}"
    )


def _file(arm: str, seed: int) -> Path:
    _WORK.mkdir(parents=True, exist_ok=True)
    return _WORK / f"{_slug(arm, seed)}.json"


def _read(arm: str, seed: int) -> list[dict[str, float]]:
    return list(json.loads(_file(arm, seed).read_text())["turns"])
