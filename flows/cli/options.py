"""Options and arguments that several commands share, and the store that they name."""

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="HEIRLOOM_STORE",
        help="Folder of the store, or s3://BUCKET/PREFIX. Default: the site's, else heirloom-store.",
    ),
]

SiteFile = Annotated[
    str | None, typer.Option("--site", metavar="FILE", help="TOML file with the site: store and resources.")
]

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Set one recipe value; may be repeated. It overrides the recipe file, which overrides the defaults.",
    ),
]

RecipeSource = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A TOML file, the name of a shipped recipe, or the name of a run.")
]

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.")]

Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking for confirmation.")]


def existing_store(store: str | None) -> Path:
    """Return the folder of the store, brought up to date if it mirrors object storage.

    Raises:
        HeirloomError: there is no store.
    """
    from flows.config.loading import load_site
    from storage.query.scan import require_store

    root = load_site(None, store).synced().store
    require_store(root)
    return root
