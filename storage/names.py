"""Names of runs, datasets and eval sets: each one is the name of a folder and a part of URLs and file names."""

import re
from typing import Annotated

from pydantic import Field

from heirloom.errors import HeirloomError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
"""Type of a pydantic field that holds the name of a run or dataset."""

_NAME = re.compile(NAME_PATTERN)


def check_name(name: str, subject: str) -> None:
    """Check that `name` can be the name of a folder; `subject` is the thing that it names, such as `a run`.

    Raises:
        HeirloomError: the name is empty, starts with a dot, dash or underscore, or contains another character than
            ASCII letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(name):
        raise HeirloomError(
            f"{name!r} cannot name {subject}: use letters, digits, dots, dashes and underscores, "
            f"and start with a letter or digit"
        )
