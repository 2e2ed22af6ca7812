"""Evaluation sets: human records under a name of their own, kept out of everything once they are there.

<root>/human/<name>/evaluation/<set>/records/     the records, immutable
                                     set_aside/   documents that could not be taken in, with the reason
                                     met=1/       what had met the set already; a later look adds the next
"""

import re
from collections.abc import Sequence
from pathlib import Path

from storage.artifacts.artifact import MANIFEST, AbsentError, Artifact, read_manifest
from storage.artifacts.schemas import MET, RESERVE, SET_ASIDE

VIEWS = {"evaluation": (RESERVE, "records"), "evaluation_set_aside": (SET_ASIDE, "set_aside"), "met": (MET, "met=*")}
"""View: schema and artifact folder."""

MET_EVALUATION = """
        -- What had met an evaluation set before it was withheld, and which models had learned from it.
        select human, withheld, place, run, generation, attempt, g.model, count(distinct id) as records,
            count(distinct keeper) as evaluation_records, round(max(similarity), 3) as similarity, max(shared_words) as shared_words
        from met left join (select run, generation, attempt, model from generations_all) as g
            using (run, generation, attempt)
        group by all order by all"""
DECONTAMINATION = """
        -- What of each corpus overlaps an evaluation set.
        select run, generation, withheld, origin, compared, overlapping, round(similarity, 3) as similarity, shared_words
        from contamination order by all"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAKEN = ("all", "heldout", "reserve")


def evaluation_folder(root: Path, human: str, name: str) -> Path:
    """Where an evaluation set is.

    Raises:
        ValueError: the name is no folder name, or one that means something else.
    """
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise ValueError(
            f"{name!r} cannot name an evaluation set: use letters, digits, dots, dashes and underscores, "
            f"and none of {', '.join(_TAKEN)}"
        )
    return root / "human" / human / "evaluation" / name


def evaluation_sets(root: Path, human: str) -> list[str]:
    """Names of the evaluation sets of one human text, in order."""
    found = (root / "human" / human / "evaluation").glob(f"*/records/{MANIFEST}")
    return sorted(path.parent.parent.name for path in found)


def evaluation_set(root: Path, human: str, name: str) -> Artifact:
    """The records of one evaluation set.

    Raises:
        AbsentError: there is no such set.
    """
    folder = evaluation_folder(root, human, name) / "records"
    if not (folder / MANIFEST).exists():
        known = ", ".join(evaluation_sets(root, human)) or "none yet"
        raise AbsentError(
            f"there is no evaluation set {name!r} of {human}; there are: {known}. "
            f"Run: heirloom withhold SOURCE --human {human} --name {name}"
        )
    manifest = read_manifest(folder)
    return Artifact(folder, manifest["settings"], manifest["parents"])


def refuse_unknown(root: Path, human: str, names: Sequence[str]) -> None:
    """Check that every one of these evaluation sets is there.

    Raises:
        AbsentError: one is not.
    """
    for name in names:
        evaluation_set(root, human, name)
