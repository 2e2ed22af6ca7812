"""Find the snapshots of ingested human data."""

from pathlib import Path

from storage.artifacts.artifact import ArtifactMissingError


def human_folder(root: Path, name: str, snapshot: int) -> Path:
    """Folder of one snapshot of one human source."""
    return root / "human" / name / f"snapshot={snapshot}"


def newest_snapshot(root: Path, name: str) -> int:
    """Number of the newest finished snapshot.

    Raises:
        ArtifactMissingError: nothing of that name was ingested.
    """
    finished = (root / "human" / name).glob("snapshot=*/human_train/_manifest.json")
    found = [int(path.parents[1].name.split("=")[1]) for path in finished]
    if not found:
        known = ", ".join(sorted(path.name for path in (root / "human").glob("*"))) or "none yet"
        raise ArtifactMissingError(
            f"there is no human text {name!r} in {root}; ingested: {known}. Run: heirloom ingest SOURCE --name {name}"
        )
    return max(found)
