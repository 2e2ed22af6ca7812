"""Files of a model: its weights, the base model of an adapter, and weights that `heirloom gc` removed.

A model without weights keeps its manifest and loss curve. A note lists the removed files and the time, so that the
model counts neither as damaged nor as missing.
"""

import json
import time
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from heirloom.errors import one_line
from storage.artifacts.artifact import MANIFEST, Artifact, ArtifactMissingError, read_manifest
from storage.files import fsync, write_atomically

REMOVAL_NOTE = "_removed.json"
ADAPTER_CONFIG = "adapter_config.json"
BASE_MODEL_KEY = "base_model_name_or_path"


def base_name_of(model: Path) -> str | None:
    """Return the base model that an adapter names, a path relative to the adapter or a hub name; None for full models.

    Raises:
        ArtifactMissingError: the adapter names none.
    """
    path = model / ADAPTER_CONFIG
    if not path.is_file():
        return None
    try:
        name = json.loads(path.read_bytes())[BASE_MODEL_KEY]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactMissingError(f"{path} names no base model: {one_line(error)}") from error
    if not isinstance(name, str) or not name or "\0" in name:
        raise ArtifactMissingError(f"{path} names no base model: {BASE_MODEL_KEY} is {name!r}")
    return name


def base_artifact_of(model: Path) -> Path | None:
    """Return the artifact of an adapter's base model, which is in the same store; None if the base is none of those."""
    name = base_name_of(model)
    base = (model / name).resolve() if name else model
    is_in_store = base.is_relative_to(_store_of(model))
    return base if base != model and is_in_store and (base / MANIFEST).is_file() else None


def _store_of(model: Path) -> Path:
    """Return the store of a model, which is in <root>/runs/<run>/generation=N/attempt=N."""
    return model.resolve().parents[4]


def ensure_loadable(model: Artifact) -> Path:
    """Return the folder of a model after making its files, and those of an adapter's base, available locally.

    Raises:
        ArtifactMissingError: files are missing, or the weights were removed.
    """
    require_weights(model.folder)
    folder = model.ensure_local()
    if base := base_artifact_of(folder):
        ensure_loadable(replace(model, folder=base))
    return folder


def removed_weight_files(model: Path) -> frozenset[str]:
    """Return the names of the weight files that were removed on purpose and not restored."""
    return frozenset(name for name in _note(model)["files"] if not (model / name).exists())


def weight_files(model: Path) -> list[str]:
    """Return the names of a model's weight files: all that exist except its tables."""
    return [name for name in read_manifest(model)["files"] if not name.endswith(".parquet") and (model / name).exists()]


def remove_weights(model: Path) -> None:
    """Delete the weights of a finished model; the note is written first, so that a killed process leaves no damage."""
    files = sorted({*weight_files(model), *removed_weight_files(model)})
    write_atomically(model / REMOVAL_NOTE, json.dumps({"time": time.time(), "files": files}, indent=1))
    fsync(model)
    for name in files:
        (model / name).unlink(missing_ok=True)


def require_weights(model: Path) -> None:
    """Check that a model still has its weights.

    Raises:
        ArtifactMissingError: its weights were removed; the message contains the date.
    """
    if removed_weight_files(model):
        day = time.strftime("%Y-%m-%d", time.localtime(_note(model)["time"]))
        raise ArtifactMissingError(
            f"the weights of {model} were removed by heirloom gc on {day}, and they are needed now: "
            f"restore them from a copy, or remove that folder, and heirloom run trains the model again"
        )


class _RemovalNote(TypedDict):
    time: float
    files: list[str]


_NOTE_TYPE = TypeAdapter(_RemovalNote)


def _note(model: Path) -> _RemovalNote:
    path = model / REMOVAL_NOTE
    if not path.exists():
        return {"time": 0.0, "files": []}
    try:
        note = _NOTE_TYPE.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ArtifactMissingError(f"{path} is damaged. Remove it; the weights then count as missing.") from error
    # Only files of the model can have been removed from it.
    weights = {name for name in read_manifest(model)["files"] if not name.endswith(".parquet")}
    return {"time": note["time"], "files": [name for name in note["files"] if name in weights]}
