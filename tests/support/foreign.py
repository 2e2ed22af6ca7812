"""Change a store as a stranger does who knows its format: the seals of what is changed are written again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.artifacts.artifact import MANIFEST
from storage.files import file_info, manifest_digest


def reseal(artifact: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a manifest in place and write its digest again."""
    manifest = json.loads((artifact / MANIFEST).read_text())
    edit(manifest)
    (artifact / MANIFEST).write_text(json.dumps({**manifest, "manifest_digest": manifest_digest(manifest)}))


def list_file(artifact: Path, name: str) -> None:
    """List a file in the manifest, with its digest if it exists."""
    is_file = "\0" not in name and (artifact / name).is_file()
    entry = file_info(artifact / name) if is_file else {"bytes": 1, "sha256": "0" * 64}
    reseal(artifact, lambda manifest: manifest["files"].update({name: entry}))
