"""Commands that demonstrate published theory at a small scale. None of them imports Prefect."""

from typing import Annotated

import typer

from flows.cli.help import command, command_group
from flows.cli.options import SiteFile, Store
from heirloom.errors import HeirloomError, did_you_mean

app = command_group("Demonstrate published theory at a small scale.")

SCENES = ("burn-in", "echo", "witnesses", "four")


@command(app, panel="Commands", example="heirloom theory replay --scene witnesses")
def replay(
    scene: Annotated[str, typer.Option(help=f"Show one scene: {', '.join(SCENES)}. Default: all.")] = "",
    rounds: Annotated[int, typer.Option(help="Number of rounds of the longest game.", min=40, max=2000)] = 300,
) -> None:
    """Play language generation with replay: a generator receives its own outputs as if they were human."""
    from flows.terminal.console import console
    from flows.terminal.replay_game import print_transcript

    if scene and scene not in SCENES:
        raise HeirloomError(f"There is no scene `{scene}`.{did_you_mean(scene, SCENES)} Scenes: {', '.join(SCENES)}.")
    for scene_name in (scene,) if scene else SCENES:
        print_transcript(console, scene_name, rounds)


@command(app, panel="Commands", example="heirloom theory chains --run anchor --generation 0")
def chains(
    run: Annotated[
        str, typer.Option(help="Run whose model is used. Default: a small model of Python's documentation.")
    ] = "",
    generation: Annotated[
        int | None, typer.Option(help="Generation of that run. Default: the newest finished one.", min=0)
    ] = None,
    steps: Annotated[int, typer.Option(help="Number of outputs that become the next input.", min=1, max=1000)] = 50,
    num_chains: Annotated[int, typer.Option("--chains", help="Number of chains.", min=1, max=1000)] = 20,
    temperature: Annotated[float, typer.Option(help="Temperature of the sampled chains.", min=0.01)] = 1.0,
    max_tokens: Annotated[int, typer.Option("--tokens", help="Maximum number of tokens of an output.", min=2)] = 30,
    template: Annotated[
        str,
        typer.Option(help="Prompt with {text} in place of the last output. Default: the middle third of it, alone."),
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed for all random number generators.", min=0)] = 0,
    teacher: Annotated[
        str,
        typer.Option(help="Model of the site to use instead; a served one receives the template as a user message."),
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(help="Dataset whose held-out records start the chains of a teacher. Default: python-docs."),
    ] = "",
    store: Store = None,
    site: SiteFile = None,
) -> None:
    """Feed a model its own last output, again and again, and measure recurrence and drift."""
    from flows.config.loading import load_site
    from flows.terminal.chains import ChainOptions, show_chains
    from flows.terminal.console import console

    options = ChainOptions(
        run=run,
        generation=generation,
        steps=steps,
        num_chains=num_chains,
        temperature=temperature,
        max_tokens=max_tokens,
        template=template,
        seed=seed,
        teacher=teacher,
        dataset=dataset,
    )
    show_chains(console, options, load_site(site, store))
