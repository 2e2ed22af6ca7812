"""Measure the store: recovery from kills, queries, ingestion."""

import json
import os
import uuid
from functools import partial
from pathlib import Path

from benchmarks.figures import WORK, Figure, remembered
from benchmarks.operations.kills import Scene, Survived, bucket_scene, folder_scene, survive
from benchmarks.performance import ingest as ingesting
from benchmarks.performance import queries as asking
from benchmarks.support.bucket_server import serving
from curation.splitting import IngestSettings
from storage.readers.discovery import PYTHON_DOCS
from storage.remote.s3 import Bucket
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect

_WORK = WORK / "storage"
_RECIPES = {
    "ngram": {"num_generations": 5, "train": {"backend": "ngram"}, "curate": {"encoder": "hashing"}},
    "transformer": {
        "num_generations": 1,
        "train": {
            "backend": "transformer",
            "human_ratio_schedule": "ramp",
            "max_steps": 60,
            "generation_0_max_steps": 40,
        },
        "generate": {"sampler": "vllm"},
    },
}
_SHARED = {
    "dataset": "docs",
    "prompts": {"prompts_per_human_record": 3},
    "mix": {"policy": "anchor"},
    "evaluate": {"num_samples": 200},
}


def measure() -> list[Figure]:
    """What asking and taking in cost, alone on the machine; then a hundred and twenty kills, which claim no time.

    Finished parts are kept under `benchmarks/work`; delete them to start over.
    """
    _WORK.mkdir(parents=True, exist_ok=True)
    found = [*remembered(_WORK, "asking", asking.figures), *remembered(_WORK, "ingesting", ingesting.figures)]
    begun = _begun()
    ngram, transformer = (_recipe(name) for name in _RECIPES)
    scenes = {
        "n-gram loop": (folder_scene(begun, _WORK / "plain", ngram, with_prefect=False), 80),
        "n-gram loop, under Prefect": (folder_scene(begun, _WORK / "flow", ngram, with_prefect=True), 20),
    }
    with serving() as address:
        os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
        os.environ |= {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "anything"}
        url = f"s3://kills-{uuid.uuid4().hex[:8]}"
        Bucket(url).create()
        scenes["n-gram loop, in a bucket"] = (bucket_scene(begun, _WORK / "bucket", url, ngram), 10)
        scenes["transformer and vLLM"] = (
            folder_scene(begun, _WORK / "transformer", transformer, with_prefect=False),
            10,
        )
        for seed, (name, (scene, kills)) in enumerate(scenes.items(), 1):
            found += remembered(_WORK, name, partial(_killed, name, scene, kills, seed))
    return found


def _killed(name: str, scene: Scene, kills: int, seed: int) -> list[Figure]:
    return _figures(name, survive(scene, kills, seed))


def _figures(name: str, survived: Survived) -> list[Figure]:
    faults = {
        "incomplete files of published artifacts": survived.half,
        "stored parts that were lost or changed": survived.changed,
        "files that differ from an uninterrupted run": survived.different,
        "commands that ended with an error": survived.failed,
    }
    counts = [
        Figure(f"{name}: kills", survived.kills, ""),
        Figure(f"{name}: runs that finished", survived.finished, ""),
    ]
    return counts + [Figure(f"{name}: {what}", len(found), "", "0", not found) for what, found in faults.items()]


def _begun() -> Path:
    store = _WORK / "begun"
    settings = IngestSettings(passage_length_chars=(80, 360), max_train_records=450, max_heldout_records=150)
    with without_prefect():
        ingest(store, "docs", [PYTHON_DOCS], settings)
    return store


def _recipe(name: str) -> Path:
    """The recipe as a file: JSON's values are TOML's, an inline table for a table."""
    path = _WORK / f"{name}.toml"
    tables = _SHARED | _RECIPES[name] | {"name": name}
    path.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in tables.items()))
    return path


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)
