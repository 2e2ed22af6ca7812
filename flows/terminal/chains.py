"""What `heirloom theory chains` prints: greedy chains beside sampled ones, and the classes of a kernel that is known."""

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from curation.theory.chains import (
    Chains,
    empirical_kernel,
    example_kernel,
    recurrent_classes,
    recurrent_set,
    simulate_walks,
)
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.console import table
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import MANIFEST, load_artifact, read_table
from storage.artifacts.model_files import ensure_loadable
from storage.datasets.snapshots import human_folder, newest_snapshot
from storage.runs.run import Run
from storage.runs.status import accepted_attempts
from tasks.backends import Sampling, TransformerTraining
from tasks.backends.registry import Backends, open_backends, resolve_sampler
from tasks.backends.settings.capabilities import api_key
from tasks.generation.chains import chain_seeds, run_chain, train_demo_model

_WALKS, _STEPS = 400, 200
_SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(frozen=True)
class ChainOptions:
    """What a person asked to see; neither a run nor a teacher means a small model of Python's documentation."""

    run: str
    generation: int | None
    steps: int
    chains: int
    temperature: float
    tokens: int
    template: str
    seed: int
    teacher: str = ""
    """A model of the site: one of its folders; or one that its servers serve, which hears a template as the message of a user."""
    human: str = ""
    """What a teacher's chains begin from; without it, Python's documentation."""


def show_chains(console: Console, options: ChainOptions, site: Site) -> None:
    """Run the chains and print what they show.

    Raises:
        HeirloomError: the run, the generation or the site has no such model, the template no place for the output, or texts to begin
            from are too few.
    """
    with tempfile.TemporaryDirectory() as scratch, open_backends(site.resources, Path(scratch) / "logs") as backends:
        model, seeds, sampling, whose = _subject(options, site, backends, Path(scratch))
        ways = {
            "greedy": sampling.model_copy(update={"top_k": 1}),
            f"sampled at {options.temperature:g}": sampling.model_copy(update={"temperature": options.temperature}),
        }
        told = {
            name: run_chain(model, seeds, options.steps, how, options.template, options.seed, backends)
            for name, how in ways.items()
        }
    console.print(
        f"[bold]{len(seeds)} chains of {options.steps} steps[/] by {whose}: each output is all of the next input"
    )
    console.print(_course(told))
    for name, chains in told.items():
        _tell_recurrence(console, name, chains)
    _tell_known(console)


def _subject(
    asked: ChainOptions, site: Site, backends: Backends, scratch: Path
) -> tuple[Path, list[str], Sampling, str]:
    """The model, the texts to begin from, how it speaks, and what it is called."""
    if asked.run and asked.teacher:
        raise HeirloomError(f"either run {asked.run} speaks, or teacher {asked.teacher}: leave one of them out")
    if asked.human and not asked.teacher:
        raise HeirloomError(f"the text {asked.human} is what a teacher's chains begin from, and no teacher is named")
    if asked.teacher:
        return _teacher(asked, site)
    if not asked.run:
        folder = scratch / "model"
        folder.mkdir()
        seeds = train_demo_model(folder, asked.chains, backends)
        return (
            folder,
            seeds,
            Sampling(sampler="ngram", max_tokens=asked.tokens),
            "a small model of Python's documentation",
        )
    root = site.synced().store
    run = Run(root, asked.run)
    recipe = Recipe.model_validate(run.recipe())
    there = sorted(pair for pair in accepted_attempts(run) if (_model(run, pair) / MANIFEST).exists())
    chosen = [pair for pair in there if asked.generation in (None, pair[0])]
    if not chosen:
        known = ", ".join(str(generation) for generation, _ in there) or "none yet"
        raise HeirloomError(
            f"run {asked.run} has no model of generation {asked.generation}; generations with one: {known}"
        )
    artifact = load_artifact(_model(run, chosen[-1]))
    sampling = Sampling(sampler=recipe.resolve_auto().generate.sampler, max_tokens=asked.tokens)
    seeds = _heldout(root, recipe.dataset, asked.chains)
    return ensure_loadable(artifact), seeds, sampling, f"generation {chosen[-1][0]} of {asked.run}"


def _teacher(asked: ChainOptions, site: Site) -> tuple[Path, list[str], Sampling, str]:
    how = Sampling(
        teacher=asked.teacher, teacher_api="chat" if asked.template else "completions", max_tokens=asked.tokens
    )
    api_key(how, site.resources)
    seeds = _heldout(site.synced().store, asked.human, asked.chains) if asked.human else chain_seeds(asked.chains)
    # Where a teacher's model is the site says; one on a server is in no folder.
    return (
        site.resources.model_folder(asked.teacher) or Path(),
        seeds,
        resolve_sampler(how, TransformerTraining()),
        asked.teacher,
    )


def _heldout(root: Path, human: str, chains: int) -> list[str]:
    folder = human_folder(root, human, newest_snapshot(root, human)) / "human_heldout"
    texts = read_table(folder, ["text"])["text"].to_pylist()
    if len(texts) < chains:
        raise HeirloomError(f"{chains} chains were asked for, and {human} holds out {len(texts)} texts to begin from")
    return texts[:chains]


def _model(run: Run, pair: tuple[int, int]) -> Path:
    return run.folder / f"generation={pair[0]}/attempt={pair[1]}/model"


def _course(told: Mapping[str, Chains]) -> Table:
    numbers = ("step", "different texts", "like the last", "drift from the seed")
    course_of_all = table("", *numbers, numbers=numbers)
    for name, one in told.items():
        course = list(zip(one.distinct()[1:], one.similarity(), one.drift(), strict=True))
        for step in sorted({min(step, one.steps) for step in _SHOWN} | {one.steps}):
            count, like, drift = course[step - 1]
            course_of_all.add_row(name if step == 1 else "", str(step), str(count), f"{like:.2f}", f"{drift:.2f}")
    return course_of_all


def _tell_recurrence(console: Console, name: str, chains: Chains) -> None:
    times = [time for time in chains.first_recurrences() if time <= chains.steps]
    if not times:
        console.print(f"[bold]{name}[/]: no chain comes back to a text that it has said, within {chains.steps} steps")
        return
    sets = [recurrent_set(one) for one in chains.states if recurrent_set(one)]
    sizes = sorted({len(one) for one in sets})
    lasting = len({text for one in sets for text in one})
    console.print(
        f"[bold]{name}[/]: {len(times)} of {len(chains.states)} chains come back to a text, half of them by step {statistics.median_low(times)}; "
        f"{' or '.join(map(str, sizes[:5]))}{' ...' if len(sizes) > 5 else ''} steps after they had said it, {lasting} texts in all. The shortest way:",
        soft_wrap=True,
    )
    for text in min(sets, key=len)[:3]:
        console.print(f"    {' '.join(text.split()) or '(nothing)'}", markup=False, overflow="ellipsis", no_wrap=True)


def _tell_known(console: Console) -> None:
    kernel, classes = example_kernel()
    seen = recurrent_classes(
        empirical_kernel(
            simulate_walks(kernel, [*range(len(kernel))] * (_WALKS // len(kernel)), _STEPS, 0), len(kernel)
        )
    )
    shown = ", ".join("{" + ", ".join(map(str, sorted(one))) + "}" for one in classes)
    verdict = "[green]the same[/]" if seen == recurrent_classes(kernel) == classes else "[red]others[/]"
    console.print(
        f"\nA kernel of {len(kernel)} states that is known ends in the classes {shown}; from the kernel itself, and from {_WALKS} walks of "
        f"{_STEPS} steps alone, are recovered: {verdict}",
        soft_wrap=True,
    )
