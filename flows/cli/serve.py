"""The commands of operation: what keeps running, for a server to see and to schedule."""

from typing import Annotated

import typer

from flows.cli.options import Set, SiteFile, Store
from flows.config.loading import load_recipe, load_site
from flows.terminal.console import console

app = typer.Typer()


@app.command(epilog='Example: `heirloom serve anchor --set dataset=letters --cron "0 2 * * *"`')
def serve(
    recipe: Annotated[
        str, typer.Argument(help="what evolve's form is filled with: a TOML file, a shipped recipe, or a run")
    ] = "anchor",
    cron: Annotated[str | None, typer.Option(help="when evolve adds a generation by itself, as five fields")] = None,
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Serve ingest, evolve and compare from this process, for the Prefect server that is set."""
    from flows.orchestration.local_server import require_server

    where = load_site(site, store)
    chosen = load_recipe(recipe, changes or [], where.store)
    address = require_server()
    from flows.orchestration.deployments import serve_deployments

    console.print(f"serving ingest, evolve and compare for {address}; Ctrl-C ends it", soft_wrap=True)
    # A run of a served flow works in a process of its own, wherever that begins.
    where = where.model_copy(update={"store": where.store.absolute()})
    serve_deployments(chosen, where, cron)
