"""Evaluation sets: human records under a name of their own, kept out of everything once they are there.

<root>/human/<name>/eval_sets/<set>/records/     the records, immutable
                                     rejected_documents/   documents that could not be taken in, with the reason
                                     eval_exposures=1/       what had met the set already; a later look adds the next
"""

from collections.abc import Sequence
from pathlib import Path

from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, Artifact, ArtifactMissingError, read_manifest
from storage.artifacts.schemas import EVAL_EXPOSURES, HUMAN_RECORDS, REJECTED_DOCUMENTS
from storage.names import check_name

VIEWS = {
    "eval_records": (HUMAN_RECORDS, "records"),
    "eval_rejected_documents": (REJECTED_DOCUMENTS, "rejected_documents"),
    "eval_exposures": (EVAL_EXPOSURES, "eval_exposures=*"),
}
"""View: schema and artifact folder."""

EVAL_EXPOSURE_SQL = """
        -- What had met an evaluation set before it was withheld, and which models had learned from it.
        select dataset, eval_set, found_in, run, generation, attempt, g.model, count(distinct id) as records,
            count(distinct duplicate_of) as eval_records, round(max(similarity), 3) as similarity, max(shared_run_words) as shared_run_words
        from eval_exposures left join (select run, generation, attempt, model from generations_all_attempts) as g
            using (run, generation, attempt)
        group by all order by all"""
CONTAMINATION_SQL = """
        -- What of each corpus overlaps an evaluation set.
        select run, generation, eval_set, origin, num_compared, num_overlapping, round(max_jaccard, 3) as max_jaccard, shared_run_words
        from contamination_report order by all"""

_RESERVED_NAMES = ("all", "human_heldout", "human_train")


def eval_set_folder(root: Path, dataset: str, name: str) -> Path:
    """Where an evaluation set is.

    Raises:
        HeirloomError: the name is no folder name, or one that means something else.
    """
    check_name(name, "an evaluation set")
    if name in _RESERVED_NAMES:
        raise HeirloomError(f"{name!r} cannot name an evaluation set: {', '.join(_RESERVED_NAMES)} are reserved")
    return root / "human" / dataset / "eval_sets" / name


def list_eval_sets(root: Path, dataset: str) -> list[str]:
    """Names of the evaluation sets of one human text, in order."""
    found = (root / "human" / dataset / "eval_sets").glob(f"*/records/{MANIFEST}")
    return sorted(path.parent.parent.name for path in found)


def load_eval_set(root: Path, dataset: str, name: str) -> Artifact:
    """The records of one evaluation set.

    Raises:
        ArtifactMissingError: there is no such set.
    """
    folder = eval_set_folder(root, dataset, name) / "records"
    if not (folder / MANIFEST).exists():
        known = ", ".join(list_eval_sets(root, dataset)) or "none yet"
        raise ArtifactMissingError(
            f"there is no evaluation set {name!r} of {dataset}; there are: {known}. "
            f"Run: heirloom add-eval-set SOURCE --dataset {dataset} --name {name}"
        )
    manifest = read_manifest(folder)
    return Artifact(folder, manifest["settings"], manifest["parents"])


def require_eval_sets(root: Path, dataset: str, names: Sequence[str]) -> None:
    """Check that every one of these evaluation sets is there.

    Raises:
        ArtifactMissingError: one is not.
    """
    for name in names:
        load_eval_set(root, dataset, name)
