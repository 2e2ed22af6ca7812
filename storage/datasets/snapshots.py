"""Find the snapshots of ingested human data."""

from pathlib import Path

from heirloom.commands import suggest
from heirloom.errors import did_you_mean
from storage.artifacts.artifact import ArtifactMissingError
from storage.names import check_name, number_of


def human_folder(root: Path, name: str, snapshot: int) -> Path:
    """Return the folder of one snapshot of a dataset."""
    return root / "human" / name / f"snapshot={snapshot}"


def newest_snapshot(root: Path, name: str) -> int:
    """Return the number of the newest finished snapshot of a dataset.

    Raises:
        ArtifactMissingError: no dataset of that name was ingested.
    """
    check_name(name, "a dataset")
    finished = (root / "human" / name).glob("snapshot=*/human_train/_manifest.json")
    numbers = [number for path in finished if (number := number_of(path.parents[1].name, "snapshot")) is not None]
    if not numbers:
        known = sorted(path.name for path in (root / "human").glob("*"))
        raise ArtifactMissingError(
            f"There is no dataset {name!r} in {root}.{did_you_mean(name, known)} Datasets: "
            f"{', '.join(known) or 'none yet'}. To add it: {suggest('ingest', 'SOURCE', '--name', name)}"
        )
    return max(numbers)
