"""The command that serves the flows to a Prefect server."""

from typing import Annotated

import typer

from flows.cli.help import command
from flows.cli.options import RecipeSource, Set, SiteFile, Store

app = typer.Typer()


@command(app, panel="Serve", example='heirloom serve anchor --set dataset=letters --cron "0 2 * * *"')
def serve(
    recipe: RecipeSource = "anchor",
    cron: Annotated[
        str | None, typer.Option(help="Schedule that adds one generation, as five cron fields. Default: none.")
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="Time zone of --cron, as Europe/Berlin: its clock counts, also where it changes.")
    ] = "UTC",
    changes: Set = None,
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Serve ingest, evolve and compare as deployments of the Prefect server at PREFECT_API_URL.

    The recipe and the site are the default parameters of the deployments.
    """
    from flows.config.loading import load_recipe, load_site
    from flows.orchestration.local_server import answers_every_origin, require_server
    from flows.terminal.console import console

    chosen_site = load_site(site, store)
    chosen = load_recipe(recipe, changes or [], chosen_site.store)
    from flows.orchestration.schedules import cron_schedule, next_time
    from flows.orchestration.signals import own_interrupts

    schedule = cron_schedule(cron, timezone) if cron else None
    address = require_server()
    if answers_every_origin(address):
        console.print(
            f"[yellow]warning[/] The Prefect server at {address} answers pages of every web site, so a page that you "
            "open can run commands on this machine. deploy/README.md lists the settings that prevent it.",
            soft_wrap=True,
        )
    from flows.orchestration.deployments import serve_deployments

    console.print(f"Serving ingest, evolve and compare for {address}. Press Ctrl-C to stop.", soft_wrap=True)
    if schedule:
        console.print(
            f"Schedule: {cron} by the clock of {timezone}; next at {next_time(schedule):%Y-%m-%d %H:%M %Z (UTC%z)}.",
            markup=False,
            soft_wrap=True,
        )
    # A flow run works in a process of its own, whose working directory can be another one.
    chosen_site = chosen_site.model_copy(update={"store": chosen_site.store.absolute()})
    with own_interrupts():
        serve_deployments(chosen, chosen_site, schedule)
