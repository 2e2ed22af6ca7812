"""A run that begins as a copy of another's first generations, and goes on by a recipe of its own.

The generations that are taken over keep their settings and fingerprints. Their files are hard links where the
disk has them, copies elsewhere; nothing edits a file in place, so neither run can change the other.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import FORMAT, MANIFEST, ArtifactMissingError, read_manifest
from storage.artifacts.model_files import REMOVAL_NOTE, removed_weight_files, require_weights
from storage.artifacts.provenance import provenance
from storage.files import file_info, fsync
from storage.runs.run import Attempt, Run
from storage.runs.status import accepted_attempts, artifact_folders_of


def fork(source: Run, generation: int, name: str, recipe: Mapping[str, Any]) -> Run:
    """Begin the run `name` with generations 0 to `generation` of `source`; it appears whole or not at all.

    Raises:
        HeirloomError: the name is taken, a generation is not finished, its model cannot speak any more, or a file is damaged.
    """
    made = Run(source.root, name)
    if made.folder.exists():
        raise HeirloomError(f"there is already something at {made.folder}; choose another name")
    attempts = accepted_until(source, generation)
    require_weights(attempts[-1].folder / "model")
    draft = made.folder.with_name(f".fork-{name}")
    if draft.exists():
        shutil.rmtree(draft)
    for attempt in attempts:
        for folder in artifact_folders_of(attempt):
            # An index is for one kind of sketch, which the recipe may change; it is made again where it is asked for.
            if folder.name not in ("index", "human_train_index"):
                _take_over(folder, draft / folder.relative_to(source.folder))
    _describe(source, attempts, draft, recipe)
    fsync(draft)
    draft.rename(made.folder)
    fsync(made.folder.parent)
    return made


def inherited_attempts(run: Run) -> list[Attempt]:
    """The attempts that a run took over from the one it was forked from; none for a run that began by itself."""
    forked = run.forked_from()
    return accepted_until(run, forked["generation"]) if forked else []


def accepted_until(run: Run, generation: int) -> list[Attempt]:
    """The accepted attempts of generations 0 to `generation`.

    Raises:
        ArtifactMissingError: one of them is not finished.
    """
    accepted = dict(accepted_attempts(run))
    attempts = [Attempt(run, number, accepted.get(number, 1)) for number in range(generation + 1)]
    for attempt in attempts:
        if not (attempt.folder / "verdict" / MANIFEST).exists():
            raise ArtifactMissingError(f"{attempt} is not finished; heirloom show {run.name} says how far the run is")
    return attempts


def _take_over(folder: Path, target: Path) -> None:
    target.mkdir(parents=True)
    manifest = read_manifest(folder)
    for name, listed in manifest["files"].items():
        if name in removed_weight_files(folder):
            continue
        if not (folder / name).exists() or file_info(folder / name) != listed:
            raise HeirloomError(f"{folder / name} is damaged, so nothing was forked; heirloom verify says what to do")
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
        # Not every disk has hard links.
        shutil.copyfile(path, target)
        fsync(target)


def _describe(source: Run, attempts: list[Attempt], draft: Path, recipe: Mapping[str, Any]) -> None:
    taken = {(attempt.generation, attempt.number) for attempt in attempts}
    told = [
        entry
        for entry in source.journal()
        if ((entry["generation"], entry["attempt"]) in taken and entry["event"] in ("began", "accepted", "forked"))
        # What people rejected stays rejected, also where it was in an attempt that was made again.
        or (entry["event"] == "reviewed" and entry["generation"] <= attempts[-1].generation)
    ]
    last = attempts[-1]
    told.append(
        {
            "time": time.time(),
            "event": "forked",
            "generation": last.generation,
            "attempt": last.number,
            "reason": f"from {source.name} generation {last.generation}",
        }
    )
    (draft / "journal.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in told))
    content = {
        "format": FORMAT,
        "recipe": recipe,
        "provenance": provenance(),
        "forked": {"run": source.name, "generation": last.generation},
        "written": time.time(),
    }
    (draft / "run.json").write_text(json.dumps(content, indent=1))
    for name in ("journal.jsonl", "run.json"):
        fsync(draft / name)
