"""One model as a folder that others open: its weights and tokenizer, its training log, and a card that says what it is made of.

The folder is absent or finished, as everything in the store is. A model that is an adapter takes its base with it.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import load_artifact, read_manifest
from storage.artifacts.model_files import ADAPTER_CONFIG, BASE_MODEL_KEY, ensure_loadable
from storage.artifacts.provenance import commit, versions
from storage.export.dataset_card import format_value, hub_license, markdown_table
from storage.files import atomic_folder
from storage.query.catalog import open_catalog
from storage.runs.fork import accepted_until
from storage.runs.run import Run
from storage.runs.status import last_accepted_generation

_COUNTS = (
    """select origin, count(*) from corpus where run = $run and generation = $generation group by all order by all"""
)
_LICENSES = """select distinct generation, coalesce(nullif(license, ''), 'not stated') from corpus
    join (select id, any_value(license) as license from human_train group by id) using (id)
    where run = $run and generation <= $generation and origin = 'human' order by all"""
_METRICS = """select metric, source, value, low, high from metrics
    where run = $run and generation = $generation and subject = 'model' order by all"""


@dataclass(frozen=True)
class _ExportedModel:
    name: str
    run: str
    generation: int
    recipe: dict[str, Any]
    manifest: dict[str, Any]
    base: str
    """Name of the base model, or `base` where it is in the folder; empty for a model from scratch."""
    counts: list[tuple[str, int]]
    licenses: list[tuple[int, str]]
    metrics: list[tuple[str, str, float, float | None, float | None]]


def export_model(root: Path, run: str, generation: int | None, out: Path | None) -> Path:
    """Write the model of a generation, or of the newest that was accepted, to a folder of its own; returns the folder.

    Raises:
        HeirloomError: no such run or generation, its weights are gone, or the folder is there already.
    """
    source = Run(root, run)
    recipe, newest = source.recipe(), last_accepted_generation(source)
    if newest is None or (generation or 0) > newest:
        raise HeirloomError(f"run {run} has no model of generation {generation or 0} yet; go on with it first")
    generation = newest if generation is None else generation
    model = load_artifact(accepted_until(source, generation)[-1].folder / "model")
    weights = ensure_loadable(model)
    folder = out or Path(f"{run}-generation-{generation}-model")
    with atomic_folder(folder) as hidden:
        base = _copied(weights, hidden)
        told = _asked(root, source, generation, recipe, weights, base, folder.name)
        (hidden / "README.md").write_text("\n".join(_card(told)) + "\n", encoding="utf-8")
    return folder


def _copied(model: Path, folder: Path) -> str:
    """Copy a model, and below an adapter its base; returns what it is laid over."""
    for name in read_manifest(model)["files"]:
        target = folder / ("training.parquet" if name.endswith(".parquet") else name)
        shutil.copyfile(model / name, target)
    if not (folder / ADAPTER_CONFIG).exists():
        return ""
    described = json.loads((folder / ADAPTER_CONFIG).read_text())
    beside = (model / described[BASE_MODEL_KEY]).resolve()
    if not beside.is_dir():
        return str(described[BASE_MODEL_KEY])
    (folder / "base").mkdir()
    for path in sorted(beside.glob("*")):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".txt", ".model"):
            shutil.copyfile(path, folder / "base" / path.name)
    (folder / "base" / "_manifest.json").unlink(missing_ok=True)
    (folder / ADAPTER_CONFIG).write_text(json.dumps({**described, BASE_MODEL_KEY: "base"}, indent=2, sort_keys=True))
    return "base"


def _asked(
    root: Path, run: Run, generation: int, recipe: dict[str, Any], model: Path, base: str, name: str
) -> _ExportedModel:
    catalog, where = open_catalog(root, [run.name]), {"run": run.name, "generation": generation}
    counts, licenses, metrics = (catalog.execute(one, where).fetchall() for one in (_COUNTS, _LICENSES, _METRICS))
    named = base or recipe["train"].get("base_model", "")
    return _ExportedModel(name, run.name, generation, recipe, read_manifest(model), named, counts, licenses, metrics)


def _card(told: _ExportedModel) -> Iterator[str]:
    facts, total = told.manifest["facts"], sum(count for _, count in told.counts)
    licenses = sorted({license for _, license in told.licenses} - {"not stated"})
    yield from ("---", *hub_license(licenses), "library_name: transformers", "pipeline_tag: text-generation")
    yield from ((f"base_model: {json.dumps(told.base)}",) if told.base not in ("", "base") else ())
    yield from ("tags:", "- heirloom", "- synthetic", "---", "", f"# {told.run}, generation {told.generation}", "")
    yield f"A model of generation {told.generation} of the run `{told.run}`, trained by Heirloom on human and synthetic text."
    yield from ("", "## What it learned from", "")
    shares = [(origin, f"{count:,}", f"{count / total:.2%}") for origin, count in told.counts]
    yield from markdown_table(("origin", "records", "share"), shares)
    yield from ("", f"Of {facts['tokens']:,} training tokens {facts['human_token_fraction']:.2%} were human.")
    yield from (
        "",
        f"Corpus: fingerprint `{told.manifest['parents']['corpus']}`. Model: `{told.manifest['fingerprint']}`.",
    )
    yield from ("", "## Licenses of the human text, its ancestors' included", "")
    by_license = [
        (license, ", ".join(str(number) for number, named in told.licenses if named == license))
        for license in sorted({license for _, license in told.licenses})
    ]
    yield from markdown_table(("license", "in the corpora of generations"), by_license)
    if told.base:
        where = "in the folder `base`" if told.base == "base" else f"`{told.base}`, whose own license holds too"
        yield from ("", f"Base model: {where}.")
    yield from ("", "## How it was trained", "")
    made = [(key, format_value(value)) for key, value in told.recipe["train"].items() if value not in (None, "")]
    made += [
        ("steps taken", facts["steps"]),
        ("sampler", format_value(told.recipe["generate"])),
        ("mix", format_value(told.recipe["mix"])),
    ]
    yield from markdown_table(("what", "value"), made)
    yield from ("", "The loss curve is in `training.parquet`.", "", "## What was measured", "")
    rows = [
        (metric, source, *("–" if x is None else f"{x:.4g}" for x in numbers))
        for metric, source, *numbers in told.metrics
    ]
    yield from markdown_table(("metric", "source", "value", "low", "high"), rows)
    yield from ("", f"Heirloom {versions().get('heirloom', '')}, commit {commit() or 'unknown'}.")
