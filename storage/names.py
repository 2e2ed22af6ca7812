"""Names that become paths: of runs, datasets, eval sets and reports, and of files that manifests and buckets list.

A store can come from somebody else, so no name in it may lead out of the folder that it belongs to.
"""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from heirloom.errors import HeirloomError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""Type of a pydantic field that holds the name of a run, dataset or report."""

_NAME = re.compile(NAME_PATTERN)
_NUMBERED = re.compile(r"(?P<key>[a-z]+)=(?P<number>0|[1-9][0-9]{0,8})")


def check_name(name: str, subject: str) -> None:
    """Check that `name` can be the name of a folder; `subject` is the thing that it names, such as `a run`.

    Raises:
        HeirloomError: the name is empty, starts with a dot, dash or underscore, or contains another character than
            ASCII letters, digits, dots, dashes and underscores.
    """
    if not is_name(name):
        raise HeirloomError(
            f"{name!r} cannot name {subject}: use letters, digits, dots, dashes and underscores, "
            f"and start with a letter or digit"
        )


def is_name(name: str) -> bool:
    """Return whether `name` can be the name of a folder; see `check_name`."""
    return _NAME.fullmatch(name) is not None


def is_inner_path(name: str) -> bool:
    """Return whether a name is a relative path, with slashes, that cannot lead out of the folder it is joined to."""
    parts = name.split("/")
    return "\\" not in name and "\0" not in name and not {"", ".", ".."} & set(parts)


def number_of(folder_name: str, key: str) -> int | None:
    """Return N of a folder named `<key>=N`; None for any other name."""
    found = _NUMBERED.fullmatch(folder_name)
    return int(found["number"]) if found and found["key"] == key else None


def first_link(folder: Path, name: str) -> Path | None:
    """Return the first symbolic link on the way from a folder to the file `name` in it, or None; `name` is inner."""
    path = folder
    for part in name.split("/"):
        path = path / part
        if path.is_symlink():
            return path
    return None
