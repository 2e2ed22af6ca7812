"""What every command shares: the console it speaks to, and the options that mean the same everywhere."""

from typing import Annotated

import typer

Store = Annotated[
    str | None,
    typer.Option("--store", help="folder that holds everything; default heirloom-store", envvar="HEIRLOOM_STORE"),
]


SiteFile = Annotated[str | None, typer.Option("--site", help="TOML file that says where work happens")]


Set = Annotated[
    list[str] | None, typer.Option("--set", help="change one value of the recipe, as table.key=value; may be repeated")
]
