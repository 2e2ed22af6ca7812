"""Export one model as a folder: weights and tokenizer, training log, and a model card.

The folder appears complete or not at all. The base of an adapter is copied with it.
"""

import json
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heirloom.commands import suggest
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Manifest, load_artifact, read_manifest
from storage.artifacts.model_files import (
    ADAPTER_CONFIG,
    BASE_MODEL_KEY,
    base_artifact_of,
    base_name_of,
    ensure_loadable,
)
from storage.export.markdown import format_number, format_value, hub_license, render_card
from storage.files import atomic_folder
from storage.query.catalog import open_catalog
from storage.runs.fork import accepted_until
from storage.runs.run import Run
from storage.runs.status import last_accepted_generation

_COUNTS = """select origin, count(*) from corpus
    where run = $run and generation = $generation group by all order by all"""
_LICENSES = """select distinct generation, coalesce(nullif(license, ''), 'not stated') from corpus
    join (select id, any_value(license) as license from human_train group by id) using (id)
    where run = $run and generation <= $generation and origin = 'human' order by all"""
_METRICS = """select metric, source, value, low, high from metrics
    where run = $run and generation = $generation and subject = 'model' order by all"""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_BASE_FILE_SUFFIXES = (".json", ".safetensors", ".txt", ".model")


@dataclass(frozen=True, kw_only=True)
class _ExportedModel:
    run: str
    generation: int
    recipe: Mapping[str, Any]
    manifest: Manifest
    base: str
    """Name of the base model, or `base` if it is in the folder; empty for a model trained from scratch."""
    counts: list[tuple[str, int]]
    """Origin and number of the records of the corpus."""
    licenses: list[tuple[int, str]]
    """Generation and license of its human records."""
    metrics: list[tuple[str, str, float | None, float | None, float | None]]
    """Metric, source, value, lower and upper bound."""

    @property
    def title(self) -> str:
        return f"{self.run}, generation {self.generation}"


def export_model(
    root: Path, run_name: str, generation: int | None, out: Path | None, base_folder: Path | None = None
) -> Path:
    """Write the model of a generation, or of the newest accepted one, to a new folder; returns the folder.

    Args:
        root: the store.
        run_name: the run.
        generation: the generation; None for the newest accepted one.
        out: the folder to write.
        base_folder: folder outside of the store that may be copied if the model is an adapter on it.

    Raises:
        HeirloomError: there is no such run or generation, its weights were removed, the folder exists already, or the
            model is an adapter on a folder outside of the store that is not `base_folder`.
    """
    run = Run(root, run_name)
    # First, since it names the existing runs if there is no such run.
    run.recipe()
    newest = last_accepted_generation(run)
    if newest is None or (generation or 0) > newest:
        raise HeirloomError(
            f"Run {run_name} has no model of generation {generation or 0} yet. "
            f"To continue it: {suggest('run', run_name)}"
        )
    generation = newest if generation is None else generation
    model = load_artifact(accepted_until(run, generation)[-1].folder / "model")
    weights = ensure_loadable(model)
    folder = out or Path(f"{run_name}-generation-{generation}-model")
    with atomic_folder(folder) as hidden:
        base = _copy_model(weights, hidden, base_folder)
        card = model_card(_exported_model(run, generation, weights, base))
        (hidden / "README.md").write_text(card, encoding="utf-8")
    return folder


def model_card(model: _ExportedModel) -> str:
    """Return the content of README.md."""
    total = sum(count for _, count in model.counts)
    return render_card(
        "model_card.md.j2",
        _metadata(model),
        {
            "model": model,
            "facts": model.manifest["facts"],
            "shares": [(origin, f"{count:,}", f"{count / total:.2%}") for origin, count in model.counts],
            "licenses": _generations_by_license(model.licenses),
            "settings": _settings(model),
            "metrics": [(metric, source, *map(format_number, numbers)) for metric, source, *numbers in model.metrics],
        },
    )


def _copy_model(model: Path, folder: Path, base_folder: Path | None = None) -> str:
    """Copy a model, and the base of an adapter; returns `_ExportedModel.base`."""
    for name in read_manifest(model)["files"]:
        target = folder / ("training.parquet" if name.endswith(".parquet") else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model / name, target)
    base_name = base_name_of(folder)
    if base_name is None:
        return ""
    files = _base_files(model, base_name, base_folder)
    if files is None:
        return base_name
    (folder / "base").mkdir()
    for path in files:
        shutil.copyfile(path, folder / "base" / path.name)
    adapter_config = json.loads((folder / ADAPTER_CONFIG).read_text())
    adapter_config[BASE_MODEL_KEY] = "base"
    (folder / ADAPTER_CONFIG).write_text(json.dumps(adapter_config, indent=2, sort_keys=True))
    return "base"


def _base_files(model: Path, base_name: str, base_folder: Path | None) -> list[Path] | None:
    """Return the files of an adapter's base that are exported with it; None if the base is on the hub.

    A store can come from a stranger, who could name any folder of this machine: only a base in the store itself, or
    the folder that the user names, is copied.
    """
    if artifact := base_artifact_of(model):
        names = [name for name in read_manifest(artifact)["files"] if Path(name).suffix in _BASE_FILE_SUFFIXES]
        return [artifact / name for name in sorted(names)]
    base = (model / base_name).resolve()
    if base_folder and base == base_folder.resolve():
        return sorted(path for path in base.glob("*") if path.is_file() and path.suffix in _BASE_FILE_SUFFIXES)
    if not base.exists() and _HUB_NAME.fullmatch(base_name):
        return None
    raise HeirloomError(
        f"The model is an adapter on {base}, which is outside of the store. Pass --base {shlex.quote(str(base))} if it "
        "may be copied into the export."
    )


def _exported_model(run: Run, generation: int, model: Path, base: str) -> _ExportedModel:
    recipe = run.recipe()
    catalog = open_catalog(run.root, [run.name])
    arguments = {"run": run.name, "generation": generation}
    return _ExportedModel(
        run=run.name,
        generation=generation,
        recipe=recipe,
        manifest=read_manifest(model),
        base=base or recipe["train"].get("base_model", ""),
        counts=catalog.execute(_COUNTS, arguments).fetchall(),
        licenses=catalog.execute(_LICENSES, arguments).fetchall(),
        metrics=catalog.execute(_METRICS, arguments).fetchall(),
    )


def _metadata(model: _ExportedModel) -> dict[str, object]:
    licenses = sorted({license for _, license in model.licenses} - {"not stated"})
    return {
        **hub_license(licenses),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": model.base} if model.base not in ("", "base") else {}),
        "tags": ["heirloom", "synthetic"],
    }


def _generations_by_license(licenses: list[tuple[int, str]]) -> list[tuple[str, str]]:
    return [
        (license, ", ".join(str(generation) for generation, stated in licenses if stated == license))
        for license in sorted({license for _, license in licenses})
    ]


def _settings(model: _ExportedModel) -> list[tuple[str, str]]:
    settings = {
        **model.recipe["train"],
        "steps taken": model.manifest["facts"]["steps"],
        "sampler": model.recipe["generate"],
        "mix": model.recipe["mix"],
    }
    return [(name, format_value(value)) for name, value in settings.items() if value not in (None, "")]
