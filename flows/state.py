"""State of a run in memory: the generations that it has produced."""

from dataclasses import dataclass
from typing import Self

from storage.artifacts.artifact import Artifact, load_artifact, read_manifest
from storage.runs.run import Attempt
from storage.runs.status import artifact_folders_of


@dataclass(frozen=True)
class Generation:
    """What one generation left behind; generation 0 has neither candidates nor decisions."""

    attempt: Attempt
    candidates: Artifact | None
    decisions: Artifact | None
    corpus: Artifact
    model: Artifact
    metrics: Artifact
    verdict: Artifact

    @classmethod
    def load(cls, attempt: Attempt) -> Self:
        """A finished generation as its manifests describe it, whatever the recipe would ask for today."""
        found = {folder.name: load_artifact(folder) for folder in artifact_folders_of(attempt)}
        spoken = found.get("candidates"), found.get("decisions")
        return cls(attempt, *spoken, found["corpus"], found["model"], found["metrics"], found["verdict"])

    @property
    def action(self) -> str:
        """What the gate says to do next, as `curation.gates` lists it."""
        return str(read_manifest(self.verdict.folder)["facts"]["action"])

    @property
    def reasons(self) -> str:
        """Why the gate says so; empty where every limit was kept."""
        return "; ".join(read_manifest(self.verdict.folder)["facts"]["reasons"])
