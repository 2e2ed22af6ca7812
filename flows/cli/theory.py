"""Commands that show published theory at work, small enough to be followed by eye. None of them imports Prefect or needs a store."""

from typing import Annotated

import typer

from flows.cli.options import SiteFile, Store
from flows.terminal.console import console
from heirloom.errors import HeirloomError

app = typer.Typer(help="Published theory at work, small enough to be followed by eye.", no_args_is_help=True)

SCENES = ("burn-in", "echo", "witnesses", "four")


@app.command(epilog="Example: `heirloom theory replay --scene witnesses`")
def replay(
    scene: Annotated[str, typer.Option(help=f"one scene alone: {', '.join(SCENES)}")] = "",
    rounds: Annotated[int, typer.Option(help="rounds of the longest game", min=40, max=2000)] = 300,
) -> None:
    """Generation with replay, as a transcript: what a generator can still promise when it is shown its own words as if they were human."""
    from flows.terminal.replay_game import print_transcript

    if scene and scene not in SCENES:
        raise HeirloomError(f"there is no scene {scene}; scenes: {', '.join(SCENES)}")
    for one in (scene,) if scene else SCENES:
        print_transcript(console, one, rounds)


@app.command(epilog="Example: `heirloom theory chains --run anchor --generation 0`")
def chains(
    run: Annotated[
        str, typer.Option(help="run whose model speaks; default a small one of Python's documentation")
    ] = "",
    generation: Annotated[
        int | None, typer.Option(help="whose model; default the newest that is finished", min=0)
    ] = None,
    steps: Annotated[int, typer.Option(help="how often a model is given its own output", min=1, max=1000)] = 50,
    count: Annotated[int, typer.Option("--chains", help="chains beside each other", min=1, max=1000)] = 20,
    temperature: Annotated[float, typer.Option(help="of the sampled chains", min=0.01)] = 1.0,
    tokens: Annotated[int, typer.Option(help="longest output", min=2)] = 30,
    template: Annotated[
        str,
        typer.Option(
            help="what the model is asked, with {text} for its last output; default: to go on from its middle"
        ),
    ] = "",
    seed: Annotated[int, typer.Option(help="all dice follow from it", min=0)] = 0,
    teacher: Annotated[
        str,
        typer.Option(help="model of the site that speaks instead; a served one hears the template as a user's message"),
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(help="text whose held-out records a teacher's chains begin from; default Python's documentation"),
    ] = "",
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Give a frozen model its own last output, again and again: when it comes back, what it keeps saying, how far it drifts."""
    from flows.config.loading import load_site
    from flows.terminal.chains import ChainOptions, show_chains

    asked = ChainOptions(run, generation, steps, count, temperature, tokens, template, seed, teacher, dataset)
    show_chains(console, asked, load_site(site, store))
