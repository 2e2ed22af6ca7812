"""What a model needs to speak: its weights, and below an adapter its base's; and weights that were removed on purpose.

Of a model without weights the manifest and the loss curve stay, and a note says what went and when: it is neither damaged nor made again.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.artifacts.artifact import MANIFEST, Artifact, ArtifactMissingError, read_manifest
from storage.files import fsync, write_atomically

REMOVAL_NOTE = "_removed.json"
ADAPTER_CONFIG = "adapter_config.json"
BASE_MODEL_KEY = "base_model_name_or_path"


def base_artifact_of(model: Path) -> Path | None:
    """The artifact that an adapter of a store is laid over; None for a whole model, and where the base is none of a store."""
    described = model / ADAPTER_CONFIG
    beside = (model / json.loads(described.read_text())[BASE_MODEL_KEY]).resolve() if described.is_file() else model
    return beside if beside != model and (beside / MANIFEST).is_file() else None


def ensure_loadable(model: Artifact) -> Path:
    """The folder of a model with every file there that it takes to speak: its own, and below an adapter its base's.

    Raises:
        ArtifactMissingError: some are missing, or were removed.
    """
    require_weights(model.folder)
    folder = model.ensure_local()
    if base := base_artifact_of(folder):
        ensure_loadable(replace(model, folder=base))
    return folder


def removed_weight_files(model: Path) -> frozenset[str]:
    """Names of the files that were removed from a model on purpose, and were not put back; empty where none is."""
    return frozenset(name for name in _note(model).get("files", ()) if not (model / name).exists())


def weight_files(model: Path) -> list[str]:
    """Names of the files that removing a model's weights would take: all but its tables."""
    return [name for name in read_manifest(model)["files"] if not name.endswith(".parquet") and (model / name).exists()]


def remove_weights(model: Path) -> None:
    """Remove the weights of a finished model; what is gone is written down before it goes."""
    files = sorted({*weight_files(model), *removed_weight_files(model)})
    write_atomically(model / REMOVAL_NOTE, json.dumps({"time": time.time(), "files": files}, indent=1))
    fsync(model)
    for name in files:
        (model / name).unlink(missing_ok=True)


def require_weights(model: Path) -> None:
    """Check that a model can still learn, speak or be scored.

    Raises:
        ArtifactMissingError: its weights were removed; the message says when.
    """
    if removed_weight_files(model):
        day = time.strftime("%Y-%m-%d", time.localtime(_note(model)["time"]))
        raise ArtifactMissingError(
            f"the weights of {model} were removed by heirloom gc on {day}, and they are needed now: "
            f"put them back from a copy, or remove that folder, and heirloom run trains the model anew"
        )


def _note(model: Path) -> dict[str, Any]:
    path = model / REMOVAL_NOTE
    return json.loads(path.read_text()) if path.exists() else {}
