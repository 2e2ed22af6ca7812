"""Command lines that messages suggest, with the store and the site that the user named."""

import os
import shlex
from dataclasses import dataclass

COMMANDS_WITH_SITE = ("demo", "run", "compare", "plan", "preview", "forecast", "ingest", "add-eval-set", "serve")
"""Commands with the option `--site`; all others take `--store` alone."""


@dataclass(frozen=True, kw_only=True)
class GivenStore:
    """How the user named the store of this process."""

    site_file: str = ""
    """Value of `--site`."""
    store: str = ""
    """Value of `--store`."""
    site_store: str = ""
    """Store that the site file names: a folder, or the URL of a bucket."""


_given = GivenStore()


def remember_store(given: GivenStore) -> None:
    """Let later suggestions name this store."""
    global _given  # noqa: PLW0603  (one command line per process)
    _given = given


def suggest(command: str, *words: str) -> str:
    """Return a command line for a shell, such as `heirloom show tiny --store 'my store'`.

    Args:
        command: name of the command.
        words: its arguments, and other options. They are quoted where a shell needs it.
    """
    options: list[str] = []
    # A shell that sets HEIRLOOM_STORE sets it for the suggested command as well.
    store = "" if _given.store == os.environ.get("HEIRLOOM_STORE") else _given.store
    if command in COMMANDS_WITH_SITE:
        options += ["--site", _given.site_file] if _given.site_file else []
    elif not _given.store:
        store = _given.site_store
    options += ["--store", store] if store else []
    return shlex.join(["heirloom", command, *words, *options])
