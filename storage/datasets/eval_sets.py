"""Eval sets: named sets of human records that are excluded from prompts and corpora once they are added.

<root>/human/<dataset>/eval_sets/<name>/records/              the records, immutable
                                        rejected_documents/   documents that were not ingested, with the reason
                                        eval_exposures=1/     records older than the set that overlap it; a later
                                                              check adds eval_exposures=2/
"""

from collections.abc import Sequence
from pathlib import Path

from heirloom.commands import suggest
from heirloom.errors import HeirloomError, did_you_mean
from storage.artifacts.artifact import MANIFEST, Artifact, ArtifactMissingError, load_artifact
from storage.artifacts.schemas import EVAL_EXPOSURES, HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.names import check_name, is_name

VIEWS = {
    "eval_records": (HUMAN_RECORDS, "records"),
    "eval_rejected_documents": (REJECTED_DOCUMENTS, "rejected_documents"),
    "eval_exposures": (EVAL_EXPOSURES, "eval_exposures=*"),
}
"""View: schema and artifact folder."""

_RESERVED_NAMES = ("all", "human_heldout", "human_train")


def eval_set_folder(root: Path, dataset: str, name: str) -> Path:
    """Return the folder of an eval set.

    Raises:
        HeirloomError: the name is invalid or reserved.
    """
    check_name(name, "an eval set")
    check_name(dataset, "a dataset")
    if name in _RESERVED_NAMES:
        raise HeirloomError(f"{name!r} cannot name an eval set: {', '.join(_RESERVED_NAMES)} are reserved")
    return root / "human" / dataset / "eval_sets" / name


def list_eval_sets(root: Path, dataset: str) -> list[str]:
    """Return the names of the eval sets of a dataset, sorted."""
    manifests = (root / "human" / dataset / "eval_sets").glob(f"*/records/{MANIFEST}")
    return sorted(name for path in manifests if is_name(name := path.parent.parent.name))


def load_eval_set(root: Path, dataset: str, name: str) -> Artifact:
    """Return the records of one eval set.

    Raises:
        ArtifactMissingError: there is no such set.
    """
    folder = eval_set_folder(root, dataset, name) / "records"
    if not (folder / MANIFEST).exists():
        known = list_eval_sets(root, dataset)
        raise ArtifactMissingError(
            f"There is no eval set {name!r} of {dataset}.{did_you_mean(name, known)} Eval sets: "
            f"{', '.join(known) or 'none yet'}. "
            f"To add it: {suggest('add-eval-set', 'SOURCE', '--dataset', dataset, '--name', name)}"
        )
    return load_artifact(folder)


def require_eval_sets(root: Path, dataset: str, names: Sequence[str]) -> None:
    """Check that every one of these eval sets exists.

    Raises:
        ArtifactMissingError: one of them does not.
    """
    for name in names:
        load_eval_set(root, dataset, name)
