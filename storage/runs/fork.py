"""Fork a run: copy its first generations into a new run that continues with its own recipe.

Copied generations keep their settings and fingerprints. Their files are hard links where the file system supports
them; no file is ever edited in place, so neither run can change the other.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from heirloom.commands import suggest
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import FORMAT, MANIFEST, ArtifactMissingError, read_manifest
from storage.artifacts.model_files import REMOVAL_NOTE, removed_weight_files, require_weights
from storage.artifacts.provenance import provenance
from storage.artifacts.seals import newest_digest
from storage.files import file_info, fsync
from storage.runs.run import Attempt, Run, chained_line, configured_entry
from storage.runs.status import accepted_attempts, artifact_folders_of


def fork(source: Run, generation: int, name: str, recipe: Mapping[str, object]) -> Run:
    """Create the run `name` with generations 0 to `generation` of `source`; it appears complete or not at all.

    Raises:
        HeirloomError: the name is taken, a generation is not finished, the weights of its model were removed, or a
            file is damaged.
    """
    new_run = Run(source.root, name)
    if new_run.folder.exists():
        raise HeirloomError(f"{new_run.folder} exists already. Choose another name.")
    attempts = accepted_until(source, generation)
    require_weights(attempts[-1].folder / "model")
    draft = new_run.folder.with_name(f".fork-{name}")
    if draft.exists():
        shutil.rmtree(draft)
    for attempt in attempts:
        for folder in artifact_folders_of(attempt):
            # The recipe may change the kind of sketch that an index holds; it is rebuilt on first use.
            if folder.name not in ("index", "human_train_index"):
                _link_artifact(folder, draft / folder.relative_to(source.folder))
    _write_metadata(source, attempts, draft, recipe)
    fsync(draft)
    draft.rename(new_run.folder)
    fsync(new_run.folder.parent)
    return new_run


def inherited_attempts(run: Run) -> list[Attempt]:
    """Return the attempts that a run inherited from the one it was forked from; none if it is no fork."""
    forked = run.forked_from()
    return accepted_until(run, forked["generation"]) if forked else []


def accepted_until(run: Run, generation: int) -> list[Attempt]:
    """Return the accepted attempts of generations 0 to `generation`.

    Raises:
        ArtifactMissingError: one of them is not finished.
    """
    accepted = dict(accepted_attempts(run))
    attempts = [Attempt(run, number, accepted.get(number, 1)) for number in range(generation + 1)]
    for attempt in attempts:
        if not (attempt.folder / "verdict" / MANIFEST).exists():
            raise ArtifactMissingError(
                f"{attempt} is not finished. To see the state of the run: {suggest('show', run.name)}"
            )
    return attempts


def _link_artifact(folder: Path, target: Path) -> None:
    target.mkdir(parents=True)
    manifest = read_manifest(folder)
    for name, listed in manifest["files"].items():
        if name in removed_weight_files(folder):
            continue
        if not (folder / name).exists() or file_info(folder / name) != listed:
            raise HeirloomError(
                f"{folder / name} is damaged, so the run was not forked. To check the whole store: {suggest('verify')}"
            )
        _link(folder / name, target / name)
    for name in (MANIFEST, REMOVAL_NOTE):
        if (folder / name).exists():
            _link(folder / name, target / name)
    fsync(target)


def _link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        # The file system has no hard links.
        shutil.copyfile(path, target)
        fsync(target)


def _write_metadata(source: Run, attempts: list[Attempt], draft: Path, recipe: Mapping[str, object]) -> None:
    inherited = {(attempt.generation, attempt.number) for attempt in attempts}
    journal = [
        entry
        for entry in source.journal()
        if (
            (entry["generation"], entry["attempt"]) in inherited and entry["event"] in ("started", "accepted", "forked")
        )
        # Records rejected in a review stay rejected, also those of attempts that were retried.
        or (entry["event"] == "reviewed" and entry["generation"] <= attempts[-1].generation)
    ]
    last = attempts[-1]
    forked = {
        "time": time.time(),
        "event": "forked",
        "generation": last.generation,
        "attempt": last.number,
        "reason": f"from {source.name} generation {last.generation}",
    }
    content = {
        "format": FORMAT,
        "recipe": recipe,
        "provenance": provenance(),
        "forked": {"run": source.name, "generation": last.generation},
        "written": time.time(),
    }
    encoded = json.dumps(content, indent=1).encode()
    lines = b""
    for entry in (configured_entry(encoded), *journal, forked):
        lines += chained_line(entry, newest_digest(lines))
    (draft / "journal.jsonl").write_bytes(lines)
    (draft / "run.json").write_bytes(encoded)
    for name in ("journal.jsonl", "run.json"):
        fsync(draft / name)
